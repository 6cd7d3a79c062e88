/* Where in a recording something happened, for the diagrams and the log: made once, while records come in. */
"use strict";

(function (raftlite) {
  const VOTE = new Set(["vote_req", "vote_resp", "pre_vote_req", "pre_vote_resp", "timeout_now"]);
  const MOST_FLIGHT = 30; // seconds: what took longer is drawn while it is in flight, and no more

  class History {
    constructor(header) {
      this.messages = new Map(); // number -> the message
      this.sends = []; // messages in the order in which they were sent
      this.spans = new Map(header.nodes.map((n) => [n, []])); // member -> [{i, t, role, term, isUp, isPaused}]
      this.marks = []; // faults, notes and checks
      this.changes = []; // numbers of the records in which a leader or the highest term changed
      this.ends = []; // receipts and losses, in order
      this.notable = []; // numbers of the records that are worth a caption
      this.kinds = []; // what a record is about, by its number - 1: see `kindOf`
      this.longest = 1; // seconds that a message has been in flight
      this.highestTerm = 0;
    }

    add(record, before) {
      const kind = kindOf(record, before);
      this.kinds.push(kind);
      if (isNotable(record, kind)) this.notable.push(record.i);
      const step = STEPS[record.k];
      if (step) step(this, record, before);
    }

    /** The messages that were on their way at some time from `start` to `stop`. */
    messagesIn(start, stop) {
      const first = raftlite.after(this.sends, start - Math.min(this.longest, MOST_FLIGHT), (message) => message.t - 1e-9);
      const found = [];
      for (let k = first; k < this.sends.length && this.sends[k].t <= stop; k++) found.push(this.sends[k]);
      return found;
    }
  }

  function send(history, record) {
    const message = { ...record, from: record.n, eta: record.eta === undefined ? null : record.eta, ends: [] };
    history.messages.set(record.m, message);
    history.sends.push(message);
  }

  function end(history, record) {
    const message = history.messages.get(record.m);
    if (!message) return;
    message.ends.push(record);
    history.ends.push(record);
    history.longest = Math.max(history.longest, record.t - message.t);
  }

  function span(history, record, before, fields) {
    const spans = history.spans.get(record.n) || [];
    history.spans.set(record.n, spans);
    const last = spans[spans.length - 1] || { ...raftlite.NOBODY };
    const next = { ...last, ...fields, i: record.i, t: record.t };
    const isSame = ["role", "term", "isUp", "isPaused"].every((name) => next[name] === last[name]);
    if (spans.length === 0 || !isSame) spans.push(next);
  }

  function state(history, record, before) {
    const node = before.node(record.n);
    span(history, record, before, { role: record.role, term: record.term });
    const isNewTerm = record.term > history.highestTerm;
    if (isNewTerm) history.highestTerm = record.term;
    const isNewLeader = (record.role === "leader") !== (node.role === "leader");
    if (isNewTerm || isNewLeader) history.changes.push(record.i);
  }

  function stop(history, record, before) {
    if (before.node(record.n).role === "leader") history.changes.push(record.i);
    span(history, record, before, { role: "stopped", isUp: false, isPaused: false });
  }

  const mark = (history, record) => history.marks.push(record);

  const STEPS = raftlite.table({
    send,
    recv: end,
    lost: end,
    state,
    stop,
    start: (history, record, before) => span(history, record, before, { role: "follower", isUp: true, isPaused: false }),
    pause: (history, record, before) => span(history, record, before, { isPaused: true }),
    resume: (history, record, before) => span(history, record, before, { isPaused: false }),
    fault: mark,
    note: mark,
    check: mark,
    act: mark,
  });

  const KINDS = raftlite.table({
    start: "term", stop: "term", event: "term", proof: "fault", timer: "timer", fault: "fault", links: "links",
    pause: "fault", resume: "fault", lost: "fault", clock: "note", note: "note", check: "note", act: "note",
  });

  /** What a record is about: term, vote, timer, heartbeat, fault, note, links (whose fault says the same) or other. */
  function kindOf(record, before) {
    if (record.k === "state") return kindOfState(record, before.node(record.n));
    if (record.k === "send" || record.k === "recv") return VOTE.has(record.type) ? "vote" : "heartbeat";
    if (record.k === "timer" && record.timer === "heartbeat") return "heartbeat";
    if (record.k === "lost" && !VOTE.has(record.type)) return "heartbeat";
    return KINDS[record.k] || "other";
  }

  function kindOfState(record, node) {
    if (record.role !== node.role || record.term !== node.term || record.leader !== node.leader) return "term";
    if (record.vote !== node.vote || (record.votes || []).length !== node.votes.length) return "vote";
    return record.role === "leader" ? "heartbeat" : "timer";
  }

  function isNotable(record, kind) {
    if (record.k === "recv") return record.result === "refused" || record.result === "stepped down";
    if (record.k === "timer") return record.timer !== "heartbeat";
    return kind === "term" ? record.k === "state" || record.k === "stop" : ["fault", "pause", "resume", "act"].includes(record.k);
  }

  raftlite.History = History;
})((window.raftlite = window.raftlite || {}));
