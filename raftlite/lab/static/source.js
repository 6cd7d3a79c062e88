/* Where records come from: the lab that serves this page, or a trace that is inside it. */
"use strict";

(function (raftlite) {
  const OFTEN = 100; // milliseconds between two questions while the cluster runs
  const SELDOM = 1000; // and while nothing can come, or nobody looks
  const LIMIT = 2000; // records in an answer
  const LAG = 0.22; // real seconds that the view is behind, so that what it shows has arrived

  /** Asks the server again and again. `told` has reset(answer), records(answer) and lost(isLost). */
  class Server {
    constructor(told) {
      this.told = told;
      this.run = null;
      this.last = 0;
      this.answer = { now: 0, paused: true, live: false, scale: 1 };
      this.askedAt = 0;
      document.addEventListener("visibilitychange", () => document.hidden || this.askNow());
    }

    start() {
      this.ask();
    }

    askNow() {
      clearTimeout(this.timer);
      if (!this.isAsking) this.ask();
      else this.isAskedAgain = true;
    }

    async ask() {
      this.isAsking = true;
      let wait = SELDOM;
      try {
        const response = await fetch(`trace?after=${this.last}&limit=${LIMIT}`, { cache: "no-store" });
        if (!response.ok) throw new Error(response.statusText);
        wait = this.take(await response.json());
        this.lost(false);
      } catch (error) {
        this.lost(true);
      }
      this.isAsking = false;
      if (this.isAskedAgain) wait = 0;
      this.isAskedAgain = false;
      this.timer = setTimeout(() => this.ask(), wait);
    }

    /** Returns how long to wait before the next question. */
    take(answer) {
      if (answer.run !== this.run) return this.begin(answer);
      this.answer = answer;
      this.answeredAt = performance.now();
      const isBehind = answer.events.length > 0 && answer.events[answer.events.length - 1].i < answer.last;
      if (answer.events.length) this.last = answer.events[answer.events.length - 1].i;
      this.told.records(answer);
      if (isBehind) return 0;
      if (document.hidden || !answer.live) return SELDOM;
      return answer.paused ? 3 * OFTEN : OFTEN;
    }

    /** Another cluster, or another recording: from its first record on. */
    begin(answer) {
      const isWhole = this.last === 0;
      this.run = answer.run;
      this.last = 0;
      this.answer = answer; // what was said of the former one is not true of this one
      this.answeredAt = performance.now();
      this.told.reset(answer);
      return isWhole ? this.take(answer) : 0;
    }

    lost(isLost) {
      if (isLost !== this.isLost) this.told.lost(isLost);
      this.isLost = isLost;
    }

    get isLive() {
      return this.answer.live && !this.isLost;
    }

    /** The time of the cluster that the view may show now, in seconds of its own clock. */
    now() {
      const { now, paused, live, scale } = this.answer;
      if (!live || paused) return now;
      const passed = (performance.now() - this.answeredAt) / 1000 - LAG;
      return Math.min(now, now + passed / scale);
    }

    async post(operation) {
      let answer;
      try {
        const response = await fetch("do", {
          method: "POST", headers: { "Content-Type": "application/json", "X-Raftlite": "1" }, body: JSON.stringify(operation),
        });
        answer = await response.json();
      } catch (error) {
        answer = { error: "the lab does not answer" };
      }
      this.askNow();
      return answer;
    }

    async open(file) {
      try {
        const response = await fetch("open", { method: "POST", headers: { "X-Raftlite": "1", "X-Name": encodeURIComponent(file.name) }, body: file });
        return await response.json();
      } catch (error) {
        return { error: "the file could not be sent to the lab" };
      } finally {
        this.askNow();
      }
    }

    async scenes() {
      const response = await fetch("scenes", { cache: "no-store" });
      return response.json();
    }
  }

  /** A trace that is part of the page: nothing is asked of anybody. */
  class Inside {
    constructor(told, trace) {
      this.told = told;
      this.trace = trace;
      this.isLive = false;
      this.answer = { live: false, paused: true, scale: 1, name: trace.name || "" };
    }

    start() {
      const [header, ...events] = this.trace.records;
      this.told.reset({ header, live: false, name: this.trace.name || "" });
      this.told.records({ events });
    }

    now() {
      return 0;
    }

    async post() {
      return { error: "this is a recording" };
    }

    async scenes() {
      return this.trace.scenes || { scenes: [], show: [] };
    }
  }

  Object.assign(raftlite, { Server, Inside });
})((window.raftlite = window.raftlite || {}));
