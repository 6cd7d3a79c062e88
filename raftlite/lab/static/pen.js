/* What moves, or comes by the hundred, is drawn on canvases: elements of their own would keep a processor busy. */
"use strict";

(function (raftlite) {
  const NAMES = [
    "follower", "candidate", "leader", "on-follower", "on-candidate", "on-leader", "stopped", "refused", "granted", "ink", "soft", "line", "faint",
    "panel", "quiet", "edge-follower", "edge-candidate", "edge-leader",
  ];
  const FONT = '"Inter", "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", "DejaVu Sans", system-ui, sans-serif';
  let colours = null;

  /** The colours of the theme, by the names that they have in the styles. */
  function palette() {
    if (colours) return colours;
    const style = getComputedStyle(document.documentElement);
    colours = {};
    for (const name of NAMES) colours[name] = style.getPropertyValue(`--${name}`).trim();
    return colours;
  }

  window.addEventListener("raftlite-theme", () => (colours = null));

  /** A canvas of `width` times `height` units of the page, sharp on any screen, and what to draw on it with. */
  class Pen {
    constructor(canvas) {
      this.canvas = canvas;
      this.context = canvas.getContext("2d");
    }

    resize(width, height) {
      const ratio = Math.min(2, window.devicePixelRatio || 1);
      Object.assign(this, { width, height, colours: palette() });
      this.canvas.width = Math.round(width * ratio);
      this.canvas.height = Math.round(height * ratio);
      this.canvas.style.width = `${width}px`;
      this.canvas.style.height = `${height}px`;
      this.context.setTransform(ratio, 0, 0, ratio, 0, 0);
      this.context.lineJoin = "round";
    }

    clear(x = 0, y = 0, width = this.width, height = this.height) {
      this.context.clearRect(x, y, width, height);
    }

    font(size, weight = 400) {
      this.context.font = `${weight} ${size}px ${FONT}`;
    }

    line(x1, y1, x2, y2, colour, width, dash) {
      const { context } = this;
      context.strokeStyle = this.colours[colour];
      context.lineWidth = width;
      if (dash) context.setLineDash(dash);
      context.beginPath();
      context.moveTo(x1, y1);
      context.lineTo(x2, y2);
      context.stroke();
      if (dash) context.setLineDash([]);
    }

    /** Words with a rim in the colour of the ground, so that they can be read on lines. */
    words(text, x, y, colour, align = "left", rim = 4) {
      const { context } = this;
      context.textAlign = align;
      if (rim) {
        context.strokeStyle = this.colours.panel;
        context.lineWidth = rim;
        context.strokeText(text, x, y);
      }
      context.fillStyle = this.colours[colour];
      context.fillText(text, x, y);
    }

    shape(points, fill, stroke, width, isOpen) {
      const { context } = this;
      context.beginPath();
      points.forEach(([x, y], k) => (k ? context.lineTo(x, y) : context.moveTo(x, y)));
      if (!isOpen) context.closePath();
      this.finish(fill, stroke, width);
    }

    circle(x, y, r, fill, stroke, width) {
      this.context.beginPath();
      this.context.arc(x, y, r, 0, 2 * Math.PI);
      this.finish(fill, stroke, width);
    }

    finish(fill, stroke, width) {
      const { context } = this;
      if (fill) {
        context.fillStyle = this.colours[fill];
        context.fill();
      }
      if (!stroke) return;
      context.strokeStyle = this.colours[stroke];
      context.lineWidth = width;
      context.stroke();
    }

    /** The part of a circle that begins at its top and goes clockwise for `share` of it. */
    arc(x, y, r, share, colour, width) {
      if (!(share > 0)) return;
      const { context } = this;
      context.strokeStyle = this.colours[colour];
      context.lineWidth = width;
      context.beginPath();
      context.arc(x, y, r, -Math.PI / 2, -Math.PI / 2 + 2 * Math.PI * Math.min(1, share));
      context.stroke();
    }

    // --- messages ---

    tick(x, y, r, colour) {
      this.shape([[x - r, y], [x - 0.3 * r, y + 0.8 * r], [x + r, y - 0.8 * r]], null, colour, Math.max(2, 0.4 * r), true);
    }

    cross(x, y, r, colour) {
      this.shape([[x - r, y - r], [x + r, y + r]], null, colour, Math.max(2, 0.4 * r), true);
      this.shape([[x - r, y + r], [x + r, y - r]], null, colour, Math.max(2, 0.4 * r), true);
    }

    /** A triangle asks for a vote, hollow for a pre-vote; a circle with a sign answers; a disc is a heartbeat. */
    message({ type, granted }, x, y, r, angle) {
      if (/vote_req$/.test(type)) this.triangle(x, y, r, angle, type === "vote_req" ? "candidate" : "panel");
      else if (/vote_resp$/.test(type)) this.verdict(granted, x, y, r);
      else if (type === "timeout_now") this.chevrons(x, y, r, angle);
      else if (/^change/.test(type)) this.shape([[x - r, y - r], [x + r, y - r], [x + r, y + r], [x - r, y + r]], "panel", "ink", 2.4);
      else if (type === "heartbeat") this.circle(x, y, 0.62 * r, "leader", "edge-leader", 1.5);
      else this.circle(x, y, 0.55 * r, "panel", "quiet", 2);
    }

    triangle(x, y, r, angle, fill) {
      const corner = (turn, far) => [x + far * Math.cos(angle + turn), y + far * Math.sin(angle + turn)];
      this.shape([corner(0, 1.05 * r), corner(2.3, 1.15 * r), corner(-2.3, 1.15 * r)], fill, "edge-candidate", 2.4);
    }

    verdict(granted, x, y, r) {
      const colour = granted === false ? "refused" : "granted";
      this.circle(x, y, r, "panel", colour, 2.4);
      if (granted === false) this.cross(x, y, 0.46 * r, colour);
      else this.tick(x, y, 0.5 * r, colour);
    }

    chevrons(x, y, r, angle) {
      const { context } = this;
      context.save();
      context.translate(x, y);
      context.rotate(angle);
      for (const k of [-0.7, 0.3]) this.shape([[r * k, -r], [r * (k + 0.7), 0], [r * k, r]], null, "ink", 3.5, true);
      context.restore();
    }
  }

  Object.assign(raftlite, { Pen, palette });
})((window.raftlite = window.raftlite || {}));
