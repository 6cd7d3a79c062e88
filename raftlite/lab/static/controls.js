/* Buttons, sliders and tabs, what they say of the moment that is shown, and what is read aloud. */
"use strict";

(function (raftlite) {
  const { text, set } = raftlite.draw;
  const { words } = raftlite;
  const byId = (id) => document.getElementById(id);

  /** Connects everything that can be clicked. */
  raftlite.wire = function (app) {
    const click = (id, does) => byId(id).addEventListener("click", () => app.frame && does());
    click("stop-leader", () => app.command({ op: "kill", n: "leader" }));
    click("heal", () => app.command({ op: "heal" }));
    click("start-all", () => app.command({ op: "start_all" }));
    click("cluster", () => app.dialogs.cluster());
    click("export", () => app.dialogs.export());
    click("theme", () => raftlite.theme.toggle());
    click("help", () => app.dialogs.help());
    click("note", () => app.dialogs.note());
    click("play", () => app.playOrPause());
    click("back-one", () => app.step(-1));
    click("on-one", () => app.step(1));
    click("change-back", () => app.stepChange(-1));
    click("change-on", () => app.stepChange(1));
    click("live", () => app.goLive());
    click("back", () => app.goLive());
    raftlite.whenSet(byId("speed"), () => app.setSpeed(Number(byId("speed").value)));
    raftlite.whenSet(byId("delay"), () => app.setDelay(Number(byId("delay").value)));
    raftlite.whenSet(byId("loss"), () => app.command({ op: "loss", p: Number(byId("loss").value) / 100 }));
    raftlite.whenSet(byId("window"), () => {
      app.spacetime.shown = Number(byId("window").value);
      app.spacetime.resize();
    });
    byId("quiet").addEventListener("change", () => {
      app.spacetime.hasHeartbeats = byId("quiet").checked;
      app.spacetime.resize();
    });
    tabs(app, ["tab-ring", "tab-table"], (tab) => {
      byId("ring-view").hidden = tab !== "tab-ring";
      byId("table-view").hidden = tab !== "tab-table";
      byId("views").dataset.left = tab;
    });
    tabs(app, ["tab-diagram", "tab-log"], (tab) => (byId("views").dataset.middle = tab));
    wireWindow(app);
  };

  function wireWindow(app) {
    window.addEventListener("raftlite-theme", () => {
      for (const part of [app.lanes, app.ring, app.spacetime]) part.resize();
      app.moved();
    });
    window.addEventListener("hashchange", () => app.recording && app.followLink());
    window.addEventListener("dragover", (event) => event.preventDefault());
    window.addEventListener("drop", (event) => {
      event.preventDefault();
      if (app.isServed && event.dataTransfer.files.length) app.openFile(event.dataTransfer.files[0]);
    });
    document.addEventListener("visibilitychange", () => app.drawSoon());
    app.motion.addEventListener("change", () => app.drawSoon());
  }

  function tabs(app, ids, choose) {
    const buttons = ids.map(byId);
    const take = (button) => {
      for (const each of buttons) set(each, { "aria-selected": String(each === button), tabindex: each === button ? "0" : "-1" });
      choose(button.id);
      app.moved();
    };
    buttons.forEach((button, k) => {
      button.addEventListener("click", () => take(button));
      button.addEventListener("keydown", (event) => {
        if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
        event.preventDefault();
        const next = buttons[(k + 1) % buttons.length];
        next.focus();
        take(next);
      });
    });
  }

  /** What buttons and banners say of the moment that is shown. */
  raftlite.drawControls = function (app) {
    const { frame, time, source } = app;
    const isServed = source.isLive;
    const runs = time.isMoving;
    for (const element of document.querySelectorAll("header .live, footer button.live")) element.disabled = !frame.isLive;
    for (const id of ["delay", "loss"]) byId(id).disabled = !frame.isLive;
    document.body.dataset.mode = app.isLost ? "lost" : !isServed ? "recording" : time.isFollowing ? "live" : "past";
    byId("play").dataset.runs = String(runs);
    set(byId("play"), { "aria-label": runs ? "Pause" : "Play" });
    text(byId("live"), isServed && time.isFollowing ? (source.answer.paused ? "Clock stands" : "Live") : "Back to live");
    byId("live").hidden = !isServed;
    byId("live").disabled = time.isFollowing;
    const { can } = source.answer;
    app.header.drawSpeed(frame.isLive, frame.isLive ? frame.view.scale : time.speed, Boolean(can && can.scale));
    drawBanner(app, isServed);
    raftlite.drawRemark(app);
    drawCaption(frame);
  };

  /** What came of something that took longer than its request. */
  raftlite.drawRemark = function (app) {
    const { remark, scene, truncated, unwritten } = app.source.answer;
    const words = (scene && scene.stuck && `This scene cannot go on: ${scene.stuck}`) || (remark && remark.number > (app.remarks || 0) && remark.text) || unwritten || truncated || "";
    if (remark) app.remarks = remark.number;
    if (words && words !== app.remarked) app.toast(words);
    app.remarked = words;
  };

  function drawBanner(app, isServed) {
    const { time } = app;
    let words = "";
    if (app.isLost) words = "The lab does not answer. What it has recorded so far can still be seen; nothing can be done to the cluster.";
    else if (isServed && !time.isFollowing) words = "This is the past. The cluster goes on; its buttons work again in the present.";
    byId("banner").hidden = !words;
    text(byId("banner").firstElementChild, words);
    byId("back").hidden = app.isLost || time.isFollowing;
  }

  /** The latest event that is worth words. */
  function drawCaption(frame) {
    const { notable, kinds } = frame.history;
    const k = raftlite.after(notable, frame.i, (i) => i) - 1;
    const record = k < 0 ? null : frame.records[notable[k] - 1];
    const said = record ? words.line(record, kinds[record.i - 1]) : "";
    text(byId("caption"), said);
    byId("caption").classList.toggle("fault", Boolean(record && kinds[record.i - 1] === "fault"));
  }

  /** Changes of role, and nothing else, go to whoever listens; only the latest where there are many. */
  raftlite.announce = function (app) {
    const { frame } = app;
    if (!byId("toast").hidden) return; // it is being read
    const first = Math.max(app.said, frame.i - 200);
    let latest = null;
    for (let i = first + 1; i <= frame.i; i++) {
      const record = frame.records[i - 1];
      if ((record.k === "state" && frame.history.kinds[i - 1] === "term") || record.k === "stop") latest = record;
    }
    app.said = frame.i;
    if (latest) text(byId("said"), `${latest.n} ${words.sentence(latest, "term")}`);
  };
})((window.raftlite = window.raftlite || {}));
