/* What may be done to the cluster: the names of the operations, their buttons and their keys. The server carries them
 * out on the real one.
 */
"use strict";

(function (raftlite) {
  const { html } = raftlite.draw;

  function ofMember(n, node) {
    if (!node.isUp) {
      return [
        { label: "Start", key: "x", op: { op: "start", n } },
        { label: "Wipe disk", op: { op: "wipe", n }, title: "It forgets for whom it has voted" },
      ];
    }
    const list = [
      { label: "Stop", key: "x", op: { op: "kill", n }, title: "kill -9" },
      node.isPaused ? { label: "Go on", key: "z", op: { op: "thaw", n } } : { label: "Pause", key: "z", op: { op: "freeze", n }, title: "It neither hears nor says anything until it goes on" },
      { label: "Time out", key: "t", op: { op: "time_out", n }, title: "Its election timer runs out now" },
      { label: "Cut off", key: "o", op: { op: "isolate", n }, title: "Nobody reaches it, and it reaches nobody" },
    ];
    if (node.role === "leader") list.push({ label: "Resign", op: { op: "resign", n } });
    list.push({ label: "Power off", op: { op: "power", n }, title: "It is gone, and nobody is told" });
    list.push({ label: "Wipe disk", op: { op: "wipe", n }, title: "It is stopped and forgets for whom it has voted" });
    return list;
  }

  function ofMessage(m, isHeld) {
    return [
      { label: "Drop", op: { op: "drop", m } },
      isHeld ? { label: "Release", op: { op: "release", m } } : { label: "Hold", op: { op: "hold", m } },
      { label: "Duplicate", op: { op: "duplicate", m } },
    ];
  }

  function button(action, act) {
    const element = html("button", { type: "button", title: action.title || null }, action.label);
    if (action.key) element.append(html("kbd", { "aria-hidden": "true" }, action.key));
    element.addEventListener("click", () => act.command(action.op));
    return element;
  }

  const KEYS = [
    ["Members", [
      ["1 … 9", "select a member"], ["x", "stop it, or start it"], ["z", "pause it, or let it go on"], ["t", "its election timer runs out now"], ["o", "cut it off from the others"],
      ["l", "stop the leader, whoever it is"], ["b", "start all that are stopped"],
    ]],
    ["Links", [
      ["c 1 2", "cut the link between two members, or mend it"], ["C 1 2", "only from the first to the second"], ["g", "cut a group off"], ["h", "heal all links"],
      ["[ ]", "shorter or longer delay"], ["drag", "from member to member: cut or mend (with Alt: one way); across the ring: partition"],
    ]],
    ["Time", [
      ["Space .", "stop the clock, or let it go on"], ["← →", "one event back or forward"], ["Shift ← →", "to the change of a leader or a term before or after"], ["End", "back to live"], ["- +", "slower, faster"],
      ["a s", "align or spread the election timers"],
    ]],
    ["Show", [["PgDn PgUp", "next or previous stop"], ["n", "make a note"], ["e", "export"], ["v", "ring or table, where Tab leads to the messages on their way"], ["y", "you are the selected member: what does it do with what it hears?"], ["d", "dark or light"], ["?", "this help"]]],
  ];

  raftlite.actions = { ofMember, ofMessage, button, KEYS };
})((window.raftlite = window.raftlite || {}));
