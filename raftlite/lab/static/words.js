/* Records in words, for the log, the inspector and whoever listens to the page. */
"use strict";

(function (raftlite) {
  const ROLES = raftlite.table({
    follower: { letter: "F", name: "follower" },
    "pre-candidate": { letter: "C?", name: "pre-candidate" },
    candidate: { letter: "C", name: "candidate" },
    leader: { letter: "L", name: "leader" },
    stopped: { letter: "X", name: "stopped" },
    paused: { letter: "P", name: "paused" },
  });

  const TYPES = raftlite.table({
    vote_req: "request for a vote",
    pre_vote_req: "pre-vote request",
    vote_resp: "answer about a vote",
    pre_vote_resp: "answer to a pre-vote",
    heartbeat: "heartbeat",
    heartbeat_resp: "answer to a heartbeat",
    timeout_now: "“campaign now”",
    change_req: "request for a change",
    change_resp: "answer about a change",
  });

  const LOST = raftlite.table({
    cut: "the link is cut",
    loss: "lost on the way",
    down: "nobody is there",
    paused: "its receiver was paused",
    operator: "dropped by hand",
    expired: "too old",
  });

  const LOST_BRIEF = raftlite.table({ down: "down", loss: "lost", paused: "paused", operator: "dropped", expired: "old" });

  // Reasons as the diagram says them, where there is little room: the log and the inspector have all of the words.
  const BRIEF = [
    [/^(voted for \S+) in term \d+$/, "$1"],
    [/^(\S+ leads) in term \d+$/, "$1"],
    [/^(\S+) is in (term \d+)$/, "$1: $2"],
    [/^(term \d+) is over, .*$/, "$1 is over"],
    [/^(\S+) was heard from .*$/, "heard $1 lately"],
    [/^its membership .*$/, "old membership"],
    [/^.* cannot know how it voted.*$/, "abstains"],
  ];

  const STOPS = raftlite.table({
    killed: "is killed", power: "loses its power", stopped: "is stopped", removed: "has been removed", failed: "has failed",
  });

  const TIMERS = raftlite.table({ election: "runs into its election timeout", heartbeat: "is due to send heartbeats", lease: "sees its lease run out" });
  const CLOCK = raftlite.table({ pause: "the clock stands still", play: "the clock goes on", step: "one step" });
  const VERDICTS = raftlite.table({ granted: ["✓ ", "grants"], refused: ["✗ ", "refuses"] });

  const look = (node) => (!node.isUp ? "stopped" : node.isPaused ? "paused" : node.role);
  const role = (node) => ROLES[look(node)] || { letter: "?", name: String(node.role) };
  const type = (name) => TYPES[name] || String(name || "message").replace(/_/g, " ");
  const lost = (why, isBrief) => (isBrief && LOST_BRIEF[why]) || LOST[why] || why || "lost";
  const brief = (why) => BRIEF.reduce((found, [full, short]) => found.replace(full, short), String(why));
  const seconds = (value) => `${value.toFixed(1)} s`;
  const list = (names) => (names || []).join(" ");

  const SENTENCES = raftlite.table({
    start: (r) => `${r.inc > 1 ? `starts again (start ${r.inc})` : "starts"}${r.pid ? ` as process ${r.pid}` : ""}`,
    stop: (r) => STOPS[r.why] || `stops: ${r.why || "no reason given"}`,
    pause: () => "is paused: it neither hears nor says anything",
    resume: () => "goes on",
    state: sentenceOfState,
    timer: (r) => TIMERS[r.timer] || `runs into its ${r.timer} timer`,
    send: (r) => r.text || `sends ${r.to} a ${type(r.type)}`,
    recv: sentenceOfReceipt,
    lost: (r) => `does not get the ${type(r.type)} of ${r.from}: ${lost(r.why)}`,
    proof: (r) => `learns that the process of ${r.of} is gone`,
    fault: sentenceOfFault,
    links: (r) => (r.cut.length ? `links cut: ${r.cut.map(([a, b]) => `${a}→${b}`).join(" ")}` : "every link is whole"),
    event: sentenceOfEvent,
    note: (r) => r.text,
    check: (r) => `${r.ok ? "✓" : "✗"} ${r.name}${r.why ? `: ${r.why}` : ""}`,
    clock: (r) => CLOCK[r.op] || `the clock runs at scale ${r.scale}`,
    act: (r) => `writes with token ${r.token}: ${r.ok ? "✓ accepted" : "✗ refused"}${r.why ? `, ${r.why}` : ""}`,
    end: () => "the recording ends",
  });

  function sentenceOfState(r, kind) {
    const because = r.why ? `: ${r.why}` : "";
    if (kind === "term") {
      const follows = r.role === "follower" && r.leader ? ` of ${r.leader}` : "";
      return `is now ${(ROLES[r.role] || { name: r.role }).name}${follows} in term ${r.term}${because}`;
    }
    if (kind === "vote" && (r.votes || []).length) return `has ${r.votes.length} votes: ${list(r.votes)}`;
    if (kind === "vote") return `has voted for ${r.vote} in term ${r.term}${because}`;
    const span = typeof r.span === "number" ? ` to ${seconds(r.span)}` : "";
    return r.role === "leader" ? `leads on${because}` : `sets its timer${span}${because}`;
  }

  function sentenceOfReceipt(r) {
    const [sign, what] = VERDICTS[r.result] || ["", null];
    const reason = r.why ? `: ${r.why}` : "";
    if (what && /_req$/.test(r.type)) return `${sign}${what} the ${type(r.type)} of ${r.from}${reason}`;
    return `${sign}hears the ${type(r.type)} of ${r.from}, ${r.result || "heard"}${reason}`;
  }

  function sentenceOfEvent(r) {
    if (r.event === "elected") return `tells its program: you lead, with token ${r.token}`;
    if (r.event === "lost") return "tells its program: you lead no more";
    return r.leader ? `tells its program: ${r.leader} leads` : "tells its program: nobody leads";
  }

  const FAULTS = raftlite.table({
    kill: (r) => `kill ${r.n}`,
    power: (r) => `cut the power of ${r.n}`,
    start: (r) => `start ${r.n}`,
    freeze: (r) => `pause ${r.n}`,
    thaw: (r) => `let ${r.n} go on`,
    wipe: (r) => `wipe the disk of ${r.n}`,
    time_out: (r) => `time out ${r.n}`,
    resign: (r) => `${r.n} resigns`,
    cut: (r) => `cut ${r.a} ${r.both === false ? "→" : "↔"} ${r.b}`,
    mend: (r) => `mend ${r.a} ${r.both === false ? "→" : "↔"} ${r.b}`,
    partition: (r) => `partition ${(r.groups || []).map(list).join(" | ")}`,
    heal: () => "heal all links",
    delay: (r) => `delay ${[].concat(r.delay || []).map((value) => `${value} s`).join(" to ")}${r.a ? ` on ${r.a}→${r.b}` : ""}`,
    loss: (r) => `loss ${Math.round(100 * (r.loss || 0))} %`,
    drop: (r) => `drop message ${r.m}`,
    hold: (r) => `hold message ${r.m}`,
    release: (r) => `release message ${r.m}`,
    duplicate: (r) => `duplicate message ${r.m}`,
    align: (r) => `align the timers of ${list(r.nodes)}`,
    spread: () => "spread the timers",
    scale: (r) => `scale ${r.scale}`,
    rules: (r) => `rules: ${Object.entries(r.rules || {}).map(([name, value]) => `${name.replace(/_/g, "-")} ${value === true ? "on" : value === false ? "off" : value}`).join(", ")}`,
  });

  function sentenceOfFault(r) {
    const words = FAULTS[r.op];
    return words ? words(r) : String(r.op).replace(/_/g, " ");
  }

  /** What a record says, without its time and member. `kind` is what it is about, from the history. */
  function sentence(record, kind) {
    const words = SENTENCES[record.k];
    return words ? words(record, kind) : String(record.k);
  }

  /** The same with the member in front, unless it names it itself. */
  const line = (record, kind) => `${record.n && record.k !== "fault" ? `${record.n} ` : ""}${sentence(record, kind)}`;

  /** One line about a member, for a label that is read aloud. */
  function summary(n, node) {
    const { name } = role(node);
    const follows = node.isUp && node.role === "follower" && node.leader ? `, follows ${node.leader}` : "";
    return `${n}, ${name}${node.isPaused ? ` as ${node.role}` : ""}, term ${node.term}${follows}`;
  }

  raftlite.words = { ROLES, look, role, type, lost, brief, seconds, list, sentence, line, summary };
})((window.raftlite = window.raftlite || {}));
