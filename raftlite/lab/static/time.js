/* Which moment of the recording the page shows: the present of a cluster that runs, or any moment before. */
"use strict";

(function (raftlite) {
  const NEAR = 0.05; // seconds: closer to the present than this is the present

  class Time {
    constructor(source) {
      this.source = source;
      this.recording = null;
      this.reset(null);
    }

    reset(recording) {
      this.recording = recording;
      this.t = 0;
      this.i = 0;
      this.isFollowing = true;
      this.isPlaying = false;
      this.until = Infinity; // the record at which it stops
      this.speed = 1;
    }

    get isMoving() {
      if (!this.recording) return false;
      return this.isFollowing ? this.source.isLive && !this.source.answer.paused : this.isPlaying;
    }

    get end() {
      return this.source.isLive ? Math.max(this.recording.end, this.source.now()) : this.recording.end;
    }

    /** Goes on by `passed` real seconds. */
    tick(passed) {
      if (this.isFollowing) this.toPresent();
      else if (this.isPlaying) this.play(passed);
    }

    toPresent() {
      const t = this.source.isLive ? this.source.now() : this.recording.end;
      this.t = Math.max(this.t, t);
      if (!this.isMoving) this.t = Math.max(t, this.recording.end);
      this.i = this.isMoving ? this.recording.indexAt(this.t) : this.recording.last;
    }

    play(passed) {
      const scale = this.recording.at(this.i).scale || 1;
      this.t += (passed * this.speed) / scale;
      this.i = Math.max(this.i, this.recording.indexAt(this.t));
      if (this.i >= this.until) return this.seekRecord(this.until);
      if (this.t < this.end - NEAR) return;
      this.isPlaying = false;
      if (this.source.isLive) this.follow();
      else this.seekRecord(this.recording.last);
    }

    follow() {
      if (!this.recording) return;
      this.isFollowing = true;
      this.isPlaying = false;
      this.t = 0;
      this.toPresent();
    }

    /** Stays at a moment. */
    seek(t) {
      this.stay();
      this.t = Math.max(0, Math.min(t, this.end));
      this.i = this.recording.indexAt(this.t);
    }

    seekRecord(i) {
      this.stay();
      this.i = Math.max(0, Math.min(i, this.recording.last));
      this.t = this.recording.timeOf(this.i);
    }

    stay() {
      this.pause();
      this.until = Infinity;
    }

    /** One record on or back; false where there is none. */
    step(by) {
      const next = this.i + by;
      if (next < 0 || next > this.recording.last) return false;
      this.seekRecord(next);
      return true;
    }

    /** To the next or the previous of the sorted numbers of records; false where there is none. */
    stepTo(numbers, by) {
      const place = raftlite.after(numbers, by > 0 ? this.i : this.i - 1, (i) => i);
      const next = numbers[by > 0 ? place : place - 1];
      if (next === undefined) return false;
      this.seekRecord(next);
      return true;
    }

    start() {
      if (this.t >= this.end - NEAR && !this.source.isLive) this.seek(0);
      this.isFollowing = false;
      this.isPlaying = true;
    }

    /** From one record to another. */
    playTo(from, until) {
      this.seekRecord(from);
      this.until = until;
      this.isPlaying = true;
    }

    pause() {
      this.isFollowing = false;
      this.isPlaying = false;
    }
  }

  raftlite.Time = Time;
})((window.raftlite = window.raftlite || {}));
