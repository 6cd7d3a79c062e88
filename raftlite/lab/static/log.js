/* The records in words: what passes the filters, up to where the view is. */
"use strict";

(function (raftlite) {
  const { html } = raftlite.draw;
  const { words } = raftlite;
  const ROWS = 100; // on the page at most
  const AHEAD = 20; // of them later than the moment that is shown
  const LOOKED_AT = 20000; // records at most for one picture, however few pass
  const KINDS = [["term", "Terms", true], ["vote", "Votes", true], ["fault", "Faults", true], ["note", "Notes", true], ["timer", "Timers", false], ["heartbeat", "Heartbeats", false]];

  class Log {
    constructor(element, act) {
      this.list = html("ol", { class: "records", tabindex: "0", "aria-label": "Log of records" });
      this.shown = new Set(KINDS.filter(([, , isOn]) => isOn).map(([kind]) => kind).concat("other"));
      this.wanted = "";
      this.node = "";
      element.append(this.newFilters(), this.list);
      this.list.addEventListener("click", (event) => {
        const row = event.target.closest("li");
        if (row) act.seekRecord(Number(row.dataset.i));
      });
    }

    newFilters() {
      const boxes = KINDS.map(([kind, label, isOn]) => {
        const box = html("input", { type: "checkbox", checked: isOn });
        box.addEventListener("change", () => this.filter(() => (box.checked ? this.shown.add(kind) : this.shown.delete(kind))));
        return html("label", { class: "chip" }, box, html("span", {}, label));
      });
      this.nodes = html("select", { "aria-label": "Member in the log" });
      raftlite.whenSet(this.nodes, () => this.filter(() => (this.node = this.nodes.value)));
      const search = html("input", { type: "search", placeholder: "find", "aria-label": "Find in the log" });
      search.addEventListener("input", () => this.filter(() => (this.wanted = search.value.trim().toLowerCase())));
      return html("div", { class: "filters", role: "group", "aria-label": "Filters of the log" }, ...boxes, this.nodes, search);
    }

    filter(change) {
      change();
      this.rows = null;
      if (this.frame) this.draw(this.frame);
    }

    reset(header) {
      const every = html("option", { value: "" }, "everybody");
      this.nodes.replaceChildren(every, ...header.nodes.map((n) => html("option", { value: n }, n)));
      this.node = "";
      this.rows = null;
    }

    passes(record, kind) {
      if (!this.shown.has(kind)) return false;
      if (this.node && record.n !== this.node && record.from !== this.node && record.to !== this.node) return false;
      return !this.wanted || `${record.n} ${words.sentence(record, kind)}`.toLowerCase().includes(this.wanted);
    }

    draw(frame) {
      this.frame = frame;
      const ahead = frame.isMoving ? 0 : AHEAD; // what comes next is shown while the view stands
      const isSame = this.rows && this.i === frame.i && this.ahead === ahead && (!ahead || this.known === frame.last);
      if (isSame) return;
      if (this.rows && ahead === 0 && this.ahead === 0 && frame.i >= this.i && frame.i - this.i < ROWS) this.append(frame);
      else this.fill(frame, ahead);
      Object.assign(this, { i: frame.i, known: frame.last, ahead });
    }

    /** Only what is new. The latest is the first in the document and at the bottom of the list: nothing is measured. */
    append(frame) {
      for (let i = this.i + 1; i <= frame.i; i++) {
        if (this.passes(frame.records[i - 1], frame.history.kinds[i - 1])) this.rows.unshift(this.newRow(i, frame));
      }
      this.list.prepend(...this.rows.filter((row) => !row.isConnected));
      while (this.rows.length > ROWS) this.rows.pop().remove();
      this.mark(this.rows[0]);
    }

    fill(frame, ahead) {
      const later = this.find(frame, frame.i + 1, 1, ahead).reverse();
      const before = this.find(frame, frame.i, -1, ROWS);
      this.rows = [...later, ...before].map((i) => this.newRow(i, frame));
      for (const row of this.rows.slice(0, later.length)) row.classList.add("ahead");
      this.list.replaceChildren(...this.rows);
      const current = this.rows[later.length];
      this.mark(current);
      this.list.scrollTop = 0;
      if (later.length && current) this.center(current);
    }

    /** Scrolls the list and nothing else: `scrollIntoView` would take the whole page along. */
    center(row) {
      const [outer, inner] = [this.list.getBoundingClientRect(), row.getBoundingClientRect()];
      this.list.scrollTop += inner.top + inner.height / 2 - outer.top - outer.height / 2;
    }

    find(frame, first, step, count) {
      const found = [];
      for (let i = first, looked = 0; i >= 1 && i <= frame.last && found.length < count && looked < LOOKED_AT; i += step, looked++) {
        if (this.passes(frame.records[i - 1], frame.history.kinds[i - 1])) found.push(i);
      }
      return found;
    }

    newRow(i, frame) {
      const record = frame.records[i - 1];
      const kind = frame.history.kinds[i - 1];
      return html("li", { "data-i": i, class: `${kind} ${record.k}` },
        html("span", { class: "t" }, record.t.toFixed(3)), html("span", { class: "n" }, (record.k !== "fault" && record.n) || "·"), html("span", { class: "what" }, words.sentence(record, kind)));
    }

    mark(row) {
      if (this.current) this.current.classList.remove("current");
      this.current = row;
      if (row) row.classList.add("current");
    }
  }

  raftlite.Log = Log;
})((window.raftlite = window.raftlite || {}));
