/* What moves in the ring: the timers of the members and the messages on their way. */
"use strict";

(function (raftlite) {
  const { draw, words } = raftlite;
  const OVERDUE = 1; // seconds after which a message waits for a receiver that does not hear
  const FADE = 0.9; // seconds of the cluster for which a lost message is shown where it ended
  const LOOKS = raftlite.table({ follower: "edge-follower", candidate: "edge-candidate", "pre-candidate": "edge-candidate", leader: "edge-leader", paused: "stopped" });

  class Flight {
    constructor(canvas) {
      this.pen = new raftlite.Pen(canvas);
      this.places = new Map();
    }

    /** `places` of the members, whose radius is `size`. */
    resize(width, height, places, size) {
      this.pen.resize(width, height);
      Object.assign(this, { places, size });
    }

    draw(frame) {
      this.pen.clear();
      this.flying = []; // {m, x, y}
      for (const [n, place] of this.places) this.drawTimers(frame.view.node(n), place, frame);
      for (const end of frame.recentEnds(FADE)) if (end.k === "lost") this.drawLost(end, frame);
      this.drawFlying(frame);
    }

    /** A paused member hears nothing: what waits for it is drawn once for each sender, with its number. */
    drawFlying(frame) {
      const waiting = new Map();
      for (const send of frame.view.inFlight.values()) {
        if (!this.waits(send, frame)) this.drawMessage(send, frame);
        else {
          const link = `${send.n}\n${send.to}`;
          waiting.set(link, { send, count: waiting.has(link) ? waiting.get(link).count + 1 : 1 });
        }
      }
      for (const { send, count } of waiting.values()) {
        const place = this.drawMessage(send, frame);
        if (place && count > 1) this.drawCount(count, place);
      }
    }

    waits(send, frame) {
      return typeof send.eta === "number" && send.eta + OVERDUE < frame.t && !frame.view.held.has(send.m) && frame.selectedMessage !== send.m;
    }

    drawCount(count, [x, y]) {
      this.pen.font(Math.max(14, 1.3 * this.glyph), 700);
      this.pen.words(`${count}×`, x, y - 1.2 * this.glyph, "ink", "center");
    }

    drawTimers(node, { x, y }, frame) {
      const left = draw.timeLeft(node, frame.t);
      if (left === null) return;
      const isLeader = node.role === "leader";
      const colour = LOOKS[words.look(node)] || "soft";
      this.pen.arc(x, y, this.size * 1.42, left, colour, Math.max(3, this.size * (isLeader ? 0.08 : 0.17)));
      if (node.lease !== null) this.pen.arc(x, y, this.size * 1.24, (node.lease - frame.t) / frame.leaseSpan, colour, Math.max(3, this.size * 0.11));
    }

    drawMessage(send, frame) {
      const isHeld = frame.view.held.has(send.m);
      const place = this.along(send, this.progress(send, isHeld, frame));
      if (!place) return null;
      const [x, y, angle] = place;
      const r = this.glyph;
      if (isHeld || frame.selectedMessage === send.m) this.pen.circle(x, y, 1.7 * r, "panel", isHeld ? "soft" : "ink", 3);
      this.pen.message(send, x, y, r, angle);
      this.flying.push({ m: send.m, x, y });
      return place;
    }

    drawLost(end, frame) {
      const send = frame.history.messages.get(end.m);
      const place = send && this.along(send, Math.max(0.12, Math.min(0.72, this.share(send, end.t, frame))));
      if (!place) return;
      const [x, y, angle] = place;
      const { pen, glyph } = this;
      pen.context.globalAlpha = frame.isCalm ? 1 : Math.max(0, 1 - (frame.t - end.t) / FADE);
      pen.message(send, x, y, glyph, angle);
      pen.cross(x, y, 0.9 * glyph, "refused");
      if (end.why !== "cut" && !/^heartbeat/.test(send.type)) {
        pen.font(Math.max(14, 1.3 * glyph), 600);
        pen.words(words.lost(end.why), x, y - 1.4 * glyph, "refused", "center");
      }
      pen.context.globalAlpha = 1;
      this.flying.push({ m: send.m, x, y });
    }

    get glyph() {
      return Math.max(9, Math.min(15, this.size * 0.27));
    }

    progress(send, isHeld, frame) {
      if (frame.isCalm) return 0.5;
      const share = Math.max(0, this.share(send, frame.t, frame));
      return Math.min(share, isHeld ? 0.5 : send.eta === null || send.eta === undefined ? 0.6 : 1);
    }

    share(send, t, frame) {
      const { delay } = frame.view.links;
      const arrives = typeof send.eta === "number" ? send.eta : send.t + (delay ? (delay[0] + delay[1]) / 2 : 0.5);
      return arrives > send.t ? (t - send.t) / (arrives - send.t) : 1;
    }

    /** The point on the way of a message, a little to its right so that those who meet do not collide. */
    along(send, share) {
      const [from, to] = [this.places.get(send.n || send.from), this.places.get(send.to)];
      if (!from || !to) return null;
      const [dx, dy] = [to.x - from.x, to.y - from.y];
      const length = Math.hypot(dx, dy) || 1;
      const edge = (this.size * 1.5) / length;
      const part = edge + (1 - 2 * edge) * share;
      const aside = (0.16 * this.size) / length;
      return [from.x + dx * part - dy * aside, from.y + dy * part + dx * aside, Math.atan2(dy, dx)];
    }

    /** The message near a point; null if there is none. */
    near(x, y) {
      const distance = (each) => Math.hypot(each.x - x, each.y - y);
      const nearest = (this.flying || []).reduce((best, each) => (best && distance(best) <= distance(each) ? best : each), null);
      return nearest && distance(nearest) < 24 ? nearest.m : null;
    }
  }

  raftlite.Flight = Flight;
})((window.raftlite = window.raftlite || {}));
