/* Puts the parts together: takes records in, says which moment is shown, and has every part draw it. */
"use strict";

(function (raftlite) {
  const { text, set } = raftlite.draw;
  const byId = (id) => document.getElementById(id);
  const PERIOD = 40; // milliseconds between two pictures while something moves
  const CALM = 1000; // and where the system asks for reduced motion
  const SCROLL = 70; // milliseconds between two positions of the diagram, which moves slowly
  const SLOW = 200; // milliseconds between two pictures of what need not be smooth
  const SETTLED = 300; // milliseconds after which a view counts as at rest
  const LEAST_DELAY = 0.1; // seconds, as in the terminal
  const COSTLY = 9; // milliseconds that a picture may take before there are fewer of them

  class App {
    constructor() {
      const trace = window.RAFTLITE_TRACE;
      this.isServed = !trace;
      this.source = trace ? new raftlite.Inside(this, trace) : new raftlite.Server(this);
      this.time = new raftlite.Time(this.source);
      this.ids = [];
      this.runs = 0; // clusters and recordings that this page has shown
      this.selected = null;
      this.selectedMessage = null;
      this.cost = 0;
      this.motion = window.matchMedia("(prefers-reduced-motion: reduce)");
      this.makeParts();
      raftlite.wire(this);
      this.loadScenes();
      this.source.start();
    }

    makeParts() {
      this.header = new raftlite.Header();
      this.ring = new raftlite.Ring(byId("ring"), byId("flight"), this);
      this.spacetime = new raftlite.SpaceTime(byId("spacetime"), this);
      this.lanes = new raftlite.Lanes(byId("lanes"), byId("slider"), byId("head"), this);
      this.inspector = new raftlite.Inspector(byId("inspector"), this);
      this.table = new raftlite.Table(byId("table-view"), this);
      this.log = new raftlite.Log(byId("log"), this);
      this.scene = new raftlite.ScenePlayer(document.querySelector(".scene"), this);
      this.dialogs = new raftlite.Dialogs(this);
      this.act = new raftlite.Act(this);
      this.keys = new raftlite.Keys(this);
    }

    async loadScenes() {
      try {
        this.scene.load(await this.source.scenes());
      } catch (error) {
        this.scene.load({ scenes: [], show: [] });
      }
      this.drawSoon();
    }

    // --- what the source tells ---

    reset(answer) {
      const { header } = answer;
      this.recording = new raftlite.Recording(header);
      this.ids = header.nodes;
      this.time.reset(this.recording);
      this.selected = null;
      this.selectedMessage = null;
      this.said = 0;
      this.runs++;
      this.isPlaced = false;
      for (const part of [this.ring, this.spacetime, this.lanes, this.table, this.log, this.scene]) part.reset(header);
      this.header.reset(header, answer);
      byId("cluster").hidden = !this.isServed;
    }

    records(answer) {
      this.recording.add(answer.events);
      if (!this.isPlaced && (answer.last === undefined || this.recording.last >= answer.last)) this.beginAtPlace();
      const { paused, live, scale, scene, remark, unwritten } = answer;
      const state = JSON.stringify([paused, live, scale, scene, remark, unwritten]);
      const isNew = answer.events.length > 0 || state !== this.state || !this.frame;
      if (isNew && !this.timer) this.drawSoon(); // else the next picture is due anyway
      this.state = state;
    }

    lost(isLost) {
      this.isLost = isLost;
      this.drawSoon();
    }

    // --- drawing ---

    drawSoon() {
      if (this.recording && !this.isDrawing) this.isDrawing = requestAnimationFrame((now) => this.drawNow(now));
    }

    drawNow(now) {
      this.isDrawing = 0;
      const passed = this.drawnAt ? Math.min(1, (now - this.drawnAt) / 1000) : 0;
      this.drawnAt = now;
      this.time.tick(passed);
      clearTimeout(this.timer);
      this.timer = 0; // before anything can go wrong, or no later picture would ever be drawn
      const began = performance.now();
      this.draw(now);
      this.cost += 0.1 * (performance.now() - began - this.cost);
      if (this.time.isMoving && !document.hidden) this.timer = setTimeout(() => this.drawSoon(), this.period());
      else this.drawnAt = 0;
    }

    period() {
      if (this.motion.matches) return CALM;
      return this.cost > COSTLY ? 2 * PERIOD - 4 : PERIOD - 4;
    }

    draw(now) {
      this.frame = this.newFrame();
      if (!byId("ring-view").hidden) this.ring.draw(this.frame);
      const isMoving = this.time.isMoving;
      if (!isMoving || now - (this.scrolledAt || 0) > SCROLL) this.scroll(now);
      if (!isMoving || now - (this.slowAt || 0) > SLOW) this.drawSlow(now);
    }

    scroll(now) {
      this.scrolledAt = now;
      this.spacetime.draw(this.frame);
    }

    drawSlow(now) {
      const { frame } = this;
      this.slowAt = now;
      this.header.draw(frame);
      this.inspector.draw(frame);
      if (!byId("table-view").hidden) this.table.draw(frame);
      this.log.draw(frame);
      this.lanes.draw(frame);
      this.scene.draw(frame, this.source.isLive ? this.source.answer.scene : null);
      raftlite.drawControls(this);
      raftlite.announce(this);
    }

    newFrame() {
      const { recording, time } = this;
      const { header, history, records } = recording;
      const config = header.config || {};
      return {
        view: recording.at(time.i), i: time.i, t: time.t, last: recording.last, end: time.end, history, records, config, size: header.nodes.length,
        sceneName: header.scene, leaseSpan: (config.election || [3])[0] || 3, selected: this.selected, selectedMessage: this.selectedMessage,
        isCalm: this.motion.matches, isMoving: time.isMoving, isServed: this.source.isLive, isLive: this.isLive,
        recentEnds: (seconds) => {
          const { ends } = history;
          const stop = raftlite.after(ends, time.i, (end) => end.i);
          let start = stop;
          while (start > 0 && ends[start - 1].t > time.t - seconds) start--;
          return ends.slice(start, stop);
        },
      };
    }

    // --- what people do ---

    select(n) {
      this.selected = this.selected === n ? null : n;
      this.selectedMessage = null;
      this.moved();
    }

    selectMessage(m) {
      this.selectedMessage = this.selectedMessage === m ? null : m;
      this.moved();
    }

    moved() {
      this.slowAt = this.scrolledAt = 0;
      clearTimeout(this.placing);
      if (this.isPlaced) this.placing = setTimeout(() => this.writePlace(), SETTLED);
      this.drawSoon();
    }

    async post(operation) {
      const answer = await this.source.post(operation);
      if (answer.error) this.toast(answer.error);
      return answer;
    }

    get isLive() {
      return this.source.isLive && this.time.isFollowing;
    }

    /** Does something to the cluster, unless another moment of it is looked at, if only since the last picture. */
    command(operation) {
      if (this.source.isLive && !this.isLive) this.toast("This is the past: press End to go back to live");
      else this.post(operation);
    }

    link(a, b, isOneWay) {
      const isCut = this.frame.view.links.cut.some(([from, to]) => (from === a && to === b) || (!isOneWay && from === b && to === a));
      this.command({ op: isCut ? "mend" : "cut", a, b, both: !isOneWay });
    }

    split(groups) {
      this.command({ op: "partition", groups });
    }

    pressOfMember(key) {
      if (this.selected === null || !this.frame) return false;
      const action = raftlite.actions.ofMember(this.selected, this.frame.view.node(this.selected)).find((each) => each.key === key);
      if (action) this.command(action.op);
      return Boolean(action);
    }

    /** You are the member that is selected. */
    actOut() {
      if (!this.isServed) this.toast("Only the lab itself can ask: raftlite lab FILE");
      else if (this.selected === null) this.toast("Select the member that you want to be: press its digit");
      else this.act.begin(this.selected);
    }

    async openFile(file) {
      if (!file) return;
      const answer = await this.source.open(file);
      if (answer.error) this.toast(answer.error);
      else if (this.dialogs.isOpen) byId("export-dialog").close();
    }

    toast(words) {
      text(byId("toast"), words);
      text(byId("said"), words);
      byId("toast").hidden = false;
      clearTimeout(this.toastTimer);
      this.toastTimer = setTimeout(() => (byId("toast").hidden = true), 6000);
    }

    hint(words) {
      text(byId("hint"), words);
      if (words) text(byId("said"), words);
      byId("hint").hidden = !words;
    }

    // --- time ---

    seek(t) {
      this.toTime(t);
      this.moved();
    }

    /** At the beginning no stop has begun, though the first one begins at the same moment: the clock stood until then. */
    toTime(t) {
      const { time } = this;
      time.seek(t);
      const [first] = this.narrated();
      if (time.t === 0 && first <= time.i) time.seekRecord(first - 1);
    }

    seekRecord(i) {
      this.time.seekRecord(i);
      this.moved();
    }

    wheel(event, seconds) {
      event.preventDefault();
      this.seek(this.time.t + seconds);
    }

    playOrPause() {
      const { time, source } = this;
      if (time.isFollowing && source.isLive && source.answer.can.pause) this.post({ op: source.answer.paused ? "play" : "pause" });
      else if (time.isFollowing && source.isLive) time.pause();
      else if (time.isPlaying) time.pause();
      else time.start();
      this.moved();
    }

    step(by) {
      const { answer } = this.source;
      const isAtEnd = this.time.i >= this.recording.last;
      if (by > 0 && isAtEnd && this.source.isLive) {
        this.time.follow();
        if (answer.paused) this.post({ op: "step" });
      } else this.time.step(by);
      this.moved();
    }

    stepChange(by) {
      if (!this.time.stepTo(this.recording.history.changes, by) && by > 0 && this.source.isLive) this.time.follow();
      this.moved();
    }

    goLive() {
      this.time.follow();
      this.moved();
    }

    nextStop() {
      if (this.isLive) this.post({ op: "next", run: this.source.run });
      else if (this.source.isLive) this.stepNote(1);
      else this.playStop();
    }

    /** The scene from its beginning, with as many members as it has now. */
    again() {
      this.post({ op: "again", run: this.source.run });
    }

    /** Where this stop began, if that is not what is shown; else the one before. */
    previousStop() {
      const { time, recording } = this;
      const hasGoneOn = this.narrated().includes(time.i) && time.t > recording.timeOf(time.i);
      if (hasGoneOn) this.seekRecord(time.i);
      else this.stepNote(-1);
    }

    stepNote(by) {
      if (!this.time.stepTo(this.narrated(), by) && by > 0 && this.source.isLive) this.time.follow();
      this.moved();
    }

    /** The next stop of a recording, up to where the lecturer went on; what is left of it where there is no next one. */
    playStop() {
      const { time, recording } = this;
      const [begins, following] = this.narrated().filter((i) => i > time.i);
      if (begins) time.playTo(begins, following ? following - 1 : recording.last);
      else if (time.i < recording.last) time.start();
      this.moved();
    }

    /** Where the stops begin: somebody narrates. */
    narrated() {
      return this.recording.history.marks.filter((mark) => mark.k === "note" && mark.kind === "narration").map((mark) => mark.i);
    }

    changeDelay(by) {
      const delay = this.frame.view.links.delay || [0.5, 0.5];
      this.setDelay((delay[0] + delay[1]) / 2 + by);
    }

    setDelay(middle) {
      const value = Math.max(LEAST_DELAY, middle);
      this.command({ op: "delay", range: [0.8 * value, 1.2 * value].map((seconds) => Math.round(1000 * seconds) / 1000) });
    }

    changeSpeed(by) {
      const { isLive } = this;
      const value = this.header.speedBeside(isLive ? this.frame.view.scale : this.time.speed, by);
      this.setSpeed(value);
    }

    setSpeed(value) {
      if (this.isLive) this.post({ op: "scale", x: value });
      else this.time.speed = value;
      this.moved();
    }

    toggleTable() {
      byId(byId("table-view").hidden ? "tab-table" : "tab-ring").click();
    }

    // --- a moment as a link ---

    place() {
      const part = [`i=${this.time.i}`];
      if (this.selected) part.push(`sel=${encodeURIComponent(this.selected)}`);
      return `#${part.join("&")}`;
    }

    /** In the address of the page, once the view has come to rest: browsers forbid to do so all the time. */
    writePlace() {
      const { time } = this;
      if (time.isPlaying) return;
      try {
        history.replaceState(null, "", time.isFollowing ? location.pathname : this.place());
      } catch (error) {
        // A file may not be allowed to; the link in the dialog is there all the same.
      }
    }

    /** A link leads into what the page was opened for; whatever it shows later begins at its own beginning. */
    beginAtPlace() {
      this.isPlaced = true;
      if (!this.source.isLive) this.toTime(0);
      if (this.runs === 1) this.goToPlace();
      else this.writePlace();
      this.slowAt = 0;
    }

    /** The address has changed, perhaps only to a part of the page. */
    followLink() {
      this.goToPlace();
      this.slowAt = this.scrolledAt = 0;
      this.drawSoon();
    }

    goToPlace() {
      const part = new URLSearchParams(location.hash.slice(1));
      const i = Number(part.get("i") || NaN);
      if (this.ids.includes(part.get("sel"))) this.selected = part.get("sel");
      if (Number.isInteger(i) && i >= 0) this.time.seekRecord(i);
    }

    /** The numbers of the first and the last record in the diagram. */
    shown() {
      return [this.recording.indexAt(this.time.t - this.spacetime.shown) + 1, Math.max(1, this.time.i)];
    }
  }

  document.addEventListener("DOMContentLoaded", () => (raftlite.app = new App()));
})((window.raftlite = window.raftlite || {}));
