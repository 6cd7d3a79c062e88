/* The space-time diagram: a column for each member, time runs down, every message is a line from its sender to its
 * receiver. What is above the line of the present has happened; below it stands where messages are expected.
 *
 * It is drawn on a long paper that slides under that line: what has happened once is drawn once.
 */
"use strict";

(function (raftlite) {
  const { html, set, text } = raftlite.draw;
  const { words } = raftlite;
  const NOW = 0.84; // where the present is, as a share of the height
  const LONG = 2.2; // how long the paper is, in heights of the view

  class SpaceTime {
    /** `act` is told what is done by hand: select, selectMessage, wheel. */
    constructor(element, act) {
      this.element = element;
      this.shown = 12; // seconds from the top to the present
      this.hasHeartbeats = true;
      this.board = html("div", { class: "board", "aria-hidden": "true" });
      this.cover = html("div", { class: "cover" });
      this.heads = html("div", { class: "heads" });
      this.paper = new raftlite.Paper(this.board);
      element.append(this.board, this.cover, this.heads);
      element.addEventListener("click", (event) => this.click(event, act));
      element.addEventListener("pointermove", (event) => this.hover(event));
      element.addEventListener("wheel", (event) => act.wheel(event, (this.shown * event.deltaY) / 1200), { passive: false });
      new ResizeObserver(() => this.resize()).observe(element);
    }

    reset(header) {
      this.ids = header.nodes;
      this.frame = null;
      this.resize();
    }

    /** Everything is drawn anew. */
    resize() {
      this.width = this.element.clientWidth;
      this.height = this.element.clientHeight;
      if (!this.ids || !this.width || !this.height) return;
      this.paper.layOut(this.ids, this.width, LONG * this.height, (this.height * NOW) / this.shown);
      this.cover.style.top = `${NOW * this.height}px`;
      this.newHeads();
      this.isStale = true;
      if (this.frame) this.draw(this.frame);
    }

    newHeads() {
      this.heads.replaceChildren(...this.ids.map((n) => {
        const head = html("button", { type: "button", class: "head", "data-node": n, tabindex: "-1", "aria-label": `Select ${n}` }, n);
        head.style.left = `${this.paper.columns.get(n)}px`;
        return head;
      }));
      this.heads.classList.toggle("many", this.paper.space < 52);
      this.drawnHeads = new Map();
    }

    draw(frame) {
      this.frame = frame;
      if (!this.width || !this.height) return;
      const { paper } = this;
      const isOff = this.isStale || frame.i < this.i || this.top(frame.t) < 0 || this.top(frame.t) + this.height > paper.height;
      if (isOff) paper.drawAll(frame, Math.max(-this.shown, frame.t - 1.04 * this.shown), this.hasHeartbeats);
      else if (frame.i > this.i) paper.drawOn(frame, this.i + 1);
      if (isOff || frame.i !== this.i || frame.selectedMessage !== this.selected) paper.drawAir(frame);
      this.drawHeads(frame);
      Object.assign(this, { isStale: false, i: frame.i, selected: frame.selectedMessage });
      this.board.style.transform = `translate3d(0, ${Math.round(-this.top(frame.t))}px, 0)`;
    }

    /** Where on the paper the upper edge of the view is, when the present is at `t`. */
    top(t) {
      return this.paper.y(t) - NOW * this.height;
    }

    drawHeads(frame) {
      for (const head of this.heads.children) {
        const n = head.dataset.node;
        const look = `head ${words.look(frame.view.node(n))}${frame.selected === n ? " selected" : ""}`;
        if (this.drawnHeads.get(n) !== look) head.className = look;
        this.drawnHeads.set(n, look);
      }
    }

    // --- by hand ---

    messageAt(event) {
      if (!this.frame || event.target.closest(".head")) return null;
      const box = this.element.getBoundingClientRect();
      return this.paper.near(this.frame, event.clientX - box.left, event.clientY - box.top + this.top(this.frame.t));
    }

    hover(event) {
      this.element.style.cursor = this.messageAt(event) === null ? "" : "pointer";
    }

    click(event, act) {
      const head = event.target.closest(".head");
      if (head) return act.select(head.dataset.node);
      const m = this.messageAt(event);
      if (m !== null) act.selectMessage(m);
    }
  }

  raftlite.SpaceTime = SpaceTime;
})((window.raftlite = window.raftlite || {}));
