/* What a mouse, a pen or a finger does to the ring: select, drag from member to member, draw a line across. */
"use strict";

(function (raftlite) {
  const { svg, set } = raftlite.draw;
  const DRAG = 14; // in units of the ring: less is a click

  class Hand {
    constructor(ring) {
      this.ring = ring;
      this.from = null;
      const on = (name, handle) => ring.element.addEventListener(name, handle.bind(this));
      on("pointerdown", this.down);
      on("pointermove", this.move);
      on("pointerup", this.up);
      on("pointercancel", this.cancel);
      on("keydown", this.key);
    }

    down(event) {
      if (event.button !== 0) return;
      const point = this.point(event);
      this.from = { x: point.x, y: point.y, n: named(event.target), m: this.ring.flight.near(point.x, point.y) };
      this.line = null;
    }

    move(event) {
      if (!this.from) return this.hover(this.point(event));
      const to = this.point(event);
      if (!this.line && Math.hypot(to.x - this.from.x, to.y - this.from.y) < DRAG) return;
      if (!this.line) this.begin(event);
      const { x, y } = this.from.n ? this.ring.places.get(this.from.n) : this.from;
      set(this.line, { x1: x, y1: y, x2: to.x, y2: to.y });
    }

    hover({ x, y }) {
      this.ring.element.style.cursor = this.ring.flight.near(x, y) === null ? "" : "pointer";
    }

    begin(event) {
      this.line = svg("line", { class: this.from.n ? "to-cut" : "to-split" });
      this.ring.layers.hand.append(this.line);
      this.ring.element.setPointerCapture(event.pointerId);
    }

    up(event) {
      const from = this.from;
      const isDrag = this.line !== null && this.line !== undefined;
      this.cancel();
      if (!from) return;
      const to = this.point(event);
      if (!isDrag) this.click(from);
      else if (from.n) this.link(from.n, this.nearest(to), event.altKey);
      else this.split(from, to);
    }

    cancel() {
      if (this.line) this.line.remove();
      this.line = null;
      this.from = null;
    }

    key(event) {
      const n = named(event.target);
      if (!n || (event.key !== "Enter" && event.key !== " ")) return;
      event.preventDefault(); // Space would also stop the clock
      this.ring.act.select(n);
    }

    click(from) {
      if (from.m !== null) this.ring.act.selectMessage(from.m);
      else this.ring.act.select(from.n);
    }

    link(a, b, isOneWay) {
      if (b && a !== b) this.ring.act.link(a, b, isOneWay);
    }

    /** The members on either side of the line that was drawn. */
    split(from, to) {
      const side = ({ x, y }) => (to.x - from.x) * (y - from.y) - (to.y - from.y) * (x - from.x) > 0;
      const left = this.ring.ids.filter((n) => side(this.ring.places.get(n)));
      const right = this.ring.ids.filter((n) => !left.includes(n));
      if (left.length && right.length) this.ring.act.split([left, right]);
    }

    nearest({ x, y }) {
      const near = this.ring.ids.filter((n) => {
        const place = this.ring.places.get(n);
        return Math.hypot(place.x - x, place.y - y) < this.ring.size * 1.7;
      });
      return near[0] || null;
    }

    point(event) {
      const matrix = this.ring.element.getScreenCTM();
      return new DOMPoint(event.clientX, event.clientY).matrixTransform(matrix.inverse());
    }
  }

  function named(target) {
    const node = target.closest("[data-node]");
    return node ? node.dataset.node : null;
  }

  raftlite.Hand = Hand;
})((window.raftlite = window.raftlite || {}));
