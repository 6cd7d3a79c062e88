/* What the records of a trace add up to: the cluster after any of them, and where in the recording something happened.
 *
 * Each `state` record holds all that can be seen of its member, so the last one wins. There is no rule of Raft in here,
 * nor anywhere else on this page: raftlite/lab/trace_fold.py is the same in Python.
 */
"use strict";

(function (raftlite) {
  /** An object to look words of a file up in: it has nothing but its own entries, not even `toString`. */
  const table = (entries) => Object.assign(Object.create(null), entries);

  const NOBODY = Object.freeze({
    role: "stopped", term: 0, vote: null, votes: [], leader: null, deadline: null, span: null, lease: null,
    isUp: false, isPaused: false, inc: 0, pid: null, why: "",
  });

  /** The cluster after some records; `apply` takes it one further. Values in it are replaced, never changed. */
  class View {
    constructor(header) {
      const config = header.config || {};
      this.i = 0;
      this.t = 0;
      this.nodes = new Map(header.nodes.map((n) => [n, NOBODY]));
      this.inFlight = new Map(); // number of a message -> its `send`
      this.copies = new Map(); // number of a message -> which of its copies are on their way
      this.held = new Set();
      this.links = { cut: [], delay: config.delay || null, loss: config.loss || 0 };
      this.checks = new Map();
      this.rules = { pre_vote: config.pre_vote, check_quorum: config.check_quorum, jitter: config.jitter };
      this.scale = header.scale || 1;
      this.isClockPaused = false;
      this.narration = null;
      this.asked = []; // questions without an answer, the oldest first
      this.answered = null; // {question, answer}, while it is talked about
    }

    copy() {
      const other = Object.assign(Object.create(View.prototype), this);
      other.nodes = new Map(this.nodes);
      other.inFlight = new Map(this.inFlight);
      other.copies = new Map([...this.copies].map(([m, copies]) => [m, new Set(copies)]));
      other.held = new Set(this.held);
      other.checks = new Map(this.checks);
      return other;
    }

    apply(record) {
      this.i = record.i;
      this.t = Math.max(this.t, record.t);
      const step = STEPS.get(record.k);
      if (step) step(this, record);
    }

    node(n) {
      return this.nodes.get(n) || NOBODY;
    }

    /** Who says that it leads with a lease that holds at `t`; of several, the one of the latest term. */
    leaderAt(t) {
      let found = null;
      for (const [n, node] of this.nodes) {
        const leads = node.role === "leader" && node.isUp && node.lease !== null && node.lease > t;
        if (leads && (found === null || node.term > this.node(found).term)) found = n;
      }
      return found;
    }
  }

  const change = (view, n, fields) => view.nodes.set(n, { ...view.node(n), ...fields });

  function arrive(view, record) {
    const copies = view.copies.get(record.m);
    if (!copies) return;
    copies.delete(record.copy || 0);
    if (copies.size > 0) return;
    view.copies.delete(record.m);
    view.inFlight.delete(record.m);
    view.held.delete(record.m);
  }

  function fault(view, record) {
    const copies = view.copies.get(record.m);
    if (record.op === "duplicate" && copies) copies.add(record.copy || Math.max(...copies) + 1);
    if (record.op === "hold" && copies) view.held.add(record.m);
    if (record.op === "release") view.held.delete(record.m);
    if (record.op === "rules" && record.rules) view.rules = { ...view.rules, ...record.rules };
  }

  function note(view, record) {
    if (record.kind === "narration") Object.assign(view, { narration: record, answered: null });
    else if (record.kind === "question") view.asked = [...view.asked, record];
    else if (record.kind === "answer") Object.assign(view, { answered: { question: view.asked[0] || null, answer: record }, asked: view.asked.slice(1) });
  }

  const STEPS = new Map(Object.entries({
    start: (view, record) => view.nodes.set(record.n, {
      ...NOBODY, role: "follower", term: view.node(record.n).term, vote: view.node(record.n).vote,
      isUp: true, inc: record.inc, pid: or(record.pid), why: "started",
    }),
    stop: (view, record) => view.nodes.set(record.n, {
      ...NOBODY, term: view.node(record.n).term, vote: view.node(record.n).vote, inc: view.node(record.n).inc,
      why: record.why || "stopped",
    }),
    pause: (view, record) => change(view, record.n, { isPaused: true }),
    resume: (view, record) => change(view, record.n, { isPaused: false }),
    state: (view, record) => change(view, record.n, {
      role: record.role, term: record.term, vote: or(record.vote), votes: record.votes || [], leader: or(record.leader),
      deadline: or(record.deadline), span: or(record.span), lease: or(record.lease), why: record.why || "",
    }),
    send: (view, record) => {
      view.inFlight.set(record.m, record);
      view.copies.set(record.m, new Set([0]));
    },
    recv: arrive,
    lost: arrive,
    fault,
    note,
    links: (view, record) => {
      const { delay, loss } = record;
      view.links = {
        cut: record.cut,
        delay: Array.isArray(delay) ? delay : view.links.delay,
        loss: typeof loss === "number" ? loss : view.links.loss,
      };
    },
    check: (view, record) => view.checks.set(record.name, record),
    clock: (view, record) => {
      view.scale = record.scale || view.scale;
      if (record.op === "pause" || record.op === "play") view.isClockPaused = record.op === "pause";
    },
  }));

  const or = (value) => (value === undefined ? null : value);

  const SNAPSHOT = 1000; // records between two kept views

  /** All records so far, and the view after any of them. */
  class Recording {
    constructor(header) {
      this.header = header;
      this.records = [];
      this.history = new raftlite.History(header);
      this.snapshots = [new View(header)];
      this.latest = new View(header);
      this.cursor = new View(header);
    }

    get last() {
      return this.records.length;
    }

    get end() {
      return this.latest.t;
    }

    add(records) {
      for (const record of records) {
        if (record.i !== this.last + 1) continue; // asked for twice
        this.records.push(record);
        this.history.add(record, this.latest);
        this.latest.apply(record);
        if (record.i % SNAPSHOT === 0) this.snapshots.push(this.latest.copy());
      }
    }

    /** The view after the record with the number `i`; it holds until the next call. */
    at(i) {
      const wanted = Math.max(0, Math.min(i, this.last));
      const snapshot = Math.floor(wanted / SNAPSHOT) * SNAPSHOT;
      if (this.cursor.i > wanted || this.cursor.i < snapshot) this.cursor = this.snapshots[snapshot / SNAPSHOT].copy();
      while (this.cursor.i < wanted) this.cursor.apply(this.records[this.cursor.i]);
      return this.cursor;
    }

    /** The number of the last record that was made at `t` or before. */
    indexAt(t) {
      return raftlite.after(this.records, t, (record) => record.t);
    }

    timeOf(i) {
      return i > 0 ? this.records[Math.min(i, this.last) - 1].t : 0;
    }
  }

  /** How many of the sorted `items` have a value of at most `value`. */
  function after(items, value, of) {
    let low = 0;
    let high = items.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (of(items[middle]) <= value) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  Object.assign(raftlite, { View, Recording, NOBODY, after, table });
})((window.raftlite = window.raftlite || {}));
