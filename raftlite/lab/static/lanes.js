/* The whole recording at a glance: a lane of roles and terms for each member, and the slider that goes back in time. */
"use strict";

(function (raftlite) {
  const { words } = raftlite;
  const HEIGHT = { leader: 1, candidate: 0.9, "pre-candidate": 0.74, follower: 0.42, paused: 0.25, stopped: 0.1 };
  const HATCH = 6; // from one line to the next, of whoever stands for election
  const SIGNS = raftlite.table({ fault: "▼", question: "?", note: "✎" });
  const SLOW = 0.4; // seconds between two pictures of a recording that grows

  class Lanes {
    constructor(canvas, slider, head, act) {
      Object.assign(this, { canvas, slider, head, pen: new raftlite.Pen(canvas) });
      this.drawnAt = 0;
      slider.addEventListener("input", () => act.seek(Number(slider.value)));
      canvas.addEventListener("pointerdown", (event) => this.seek(event, act));
      canvas.addEventListener("pointermove", (event) => event.buttons === 1 && this.seek(event, act));
      new ResizeObserver(() => this.resize()).observe(canvas.parentElement);
    }

    reset(header) {
      this.ids = header.nodes;
      this.frame = null; // of the cluster before, which would stay until the clock of this one goes
      this.canvas.parentElement.style.minHeight = `${Math.min(240, 20 + 12.5 * this.ids.length)}px`;
      this.resize();
    }

    resize() {
      if (!this.ids) return;
      const room = this.canvas.parentElement;
      this.width = room.clientWidth;
      this.height = room.clientHeight;
      if (!this.width || !this.height) return;
      this.pen.resize(this.width, this.height);
      this.context = this.pen.context;
      this.drawnEnd = null;
      if (this.frame) this.draw(this.frame);
    }

    get margin() {
      return 42;
    }

    x(t) {
      return this.margin + ((this.width - this.margin - 8) * t) / Math.max(this.end, 1);
    }

    seek(event, act) {
      if (event.button > 0) return;
      const share = (event.offsetX - this.margin) / (this.width - this.margin - 8);
      act.seek(Math.max(0, Math.min(1, share)) * this.end);
    }

    draw(frame) {
      this.frame = frame;
      if (!this.context) return;
      const end = Math.max(frame.end, frame.t);
      const isDue = this.drawnEnd === null || (end !== this.drawnEnd && performance.now() / 1000 - this.drawnAt > SLOW);
      if (isDue) this.drawAll(frame, end);
      this.head.style.transform = `translateX(${this.x(Math.min(frame.t, this.end)).toFixed(1)}px)`;
      if (Math.abs(Number(this.slider.value) - frame.t) > this.end / 2000) this.slider.value = frame.t;
    }

    drawAll(frame, end) {
      this.drawnAt = performance.now() / 1000;
      this.drawnEnd = end;
      this.end = Math.max(1, end);
      this.slider.max = this.end;
      this.slider.setAttribute("aria-valuetext", `${words.seconds(frame.t)} of ${words.seconds(end)}`);
      const { context } = this;
      context.clearRect(0, 0, this.width, this.height);
      const top = 16;
      const lane = (this.height - top) / this.ids.length;
      context.textBaseline = "middle";
      this.ids.forEach((n, k) => this.drawLane(n, frame.history.spans.get(n) || [], top + lane * k, lane));
      this.drawMarks(frame.history.marks, top);
    }

    drawLane(n, spans, y, lane) {
      const { context, pen } = this;
      const { colours } = pen;
      context.fillStyle = colours.ink;
      pen.font(Math.min(15, lane * 0.8), 600);
      context.textAlign = "right";
      context.fillText(n.slice(0, 4), this.margin - 8, y + lane / 2);
      context.textAlign = "left";
      let drawn = -1;
      spans.forEach((span, k) => {
        const left = this.x(span.t);
        const right = this.x(k + 1 < spans.length ? spans[k + 1].t : this.end);
        if (right - Math.max(left, drawn) < 0.4 && k + 1 < spans.length) return;
        this.drawSpan(span, left, Math.max(right, left + 1), y, lane);
        drawn = right;
      });
    }

    drawSpan(span, left, right, y, lane) {
      const { context, pen } = this;
      const { colours } = pen;
      const look = words.look(span);
      const high = lane * 0.84 * HEIGHT[look];
      const colour = look === "pre-candidate" ? "candidate" : look === "paused" ? "stopped" : look;
      context.fillStyle = colours[colour];
      context.fillRect(left, y + (lane - high) / 2, right - left - 0.5, high);
      const name = `${span.term} ${words.ROLES[look].letter}`;
      const wide = 14 + 7 * name.length;
      const isNamed = look !== "stopped" && right - left >= wide;
      if (look.endsWith("candidate")) this.drawHatch(isNamed ? left + wide - 4 : left, right - 0.5, y + (lane - high) / 2, high);
      if (!isNamed) return;
      const isDark = HEIGHT[look] > 0.5;
      pen.font(Math.min(13, lane * 0.72), 700);
      context.lineWidth = 3.5;
      context.strokeStyle = colours.panel;
      context.fillStyle = isDark ? colours["on-candidate"] : colours.ink;
      if (!isDark) context.strokeText(name, left + 5, y + lane / 2 + 0.5);
      context.fillText(name, left + 5, y + lane / 2 + 0.5);
    }

    /** Known from a leader without its colour, though it is nearly as high. */
    drawHatch(left, right, top, high) {
      const { context, pen } = this;
      context.save();
      context.beginPath();
      context.rect(left, top, right - left, high);
      context.clip();
      for (let x = left - high; x < right; x += HATCH) pen.line(x, top + high, x + high, top, "panel", 1.6);
      context.restore();
    }

    drawMarks(marks, top) {
      const { context, pen } = this;
      const { colours } = pen;
      pen.font(13, 700);
      context.textAlign = "center";
      let drawn = -10;
      for (const mark of marks) {
        const sign = mark.k === "check" ? (mark.ok ? "✓" : "✗") : SIGNS[mark.k === "note" ? mark.kind : mark.k];
        const x = this.x(mark.t);
        if (!sign || x - drawn < 9) continue;
        context.fillStyle = mark.k === "fault" || mark.ok === false ? colours.refused : colours.soft;
        context.fillText(sign, x, top / 2);
        drawn = x;
      }
      context.textAlign = "left";
    }
  }

  raftlite.Lanes = Lanes;
})((window.raftlite = window.raftlite || {}));
