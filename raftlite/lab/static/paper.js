/* The paper of the space-time diagram: three sheets, on each of which everything is drawn once. */
"use strict";

(function (raftlite) {
  const { html } = raftlite.draw;
  const { words } = raftlite;
  const REPEAT = 8; // seconds in which the same reason for a loss is written once for each sender
  const NEAR = 9; // from a line: it is the one that is meant
  const NARROW = 80; // between two columns: one short word has room there
  const isQuiet = (message) => /^heartbeat/.test(message.type);
  const GAPS = raftlite.table({ heartbeat: 6, heartbeat_resp: 5, vote_req: 10, pre_vote_req: 10 }); // from a band to the sign at the end

  class Paper {
    constructor(element) {
      this.sheets = {};
      for (const name of ["ground", "ink", "air"]) {
        const canvas = html("canvas");
        element.append(canvas);
        this.sheets[name] = new raftlite.Pen(canvas);
      }
    }

    /** A paper for these members; a second is `scale` long. */
    layOut(ids, width, height, scale) {
      Object.assign(this, { ids, width, height, scale, origin: 0 });
      this.lane = width < 560 ? 84 : 140; // for what is done to the cluster
      const room = width - this.lane - 46;
      this.columns = new Map(ids.map((n, k) => [n, this.lane + (room * (k + 0.5)) / ids.length]));
      this.space = room / ids.length; // between two columns
      this.band = Math.max(5, Math.min(26, room / ids.length / 3.2));
      this.letters = width < 560 ? 13 : 15;
      for (const sheet of Object.values(this.sheets)) sheet.resize(width, height);
    }

    y(t) {
      return (t - this.origin) * this.scale;
    }

    /** From `start` on, up to the moment of the frame. */
    drawAll(frame, start, hasHeartbeats) {
      Object.assign(this, { origin: start, hasHeartbeats, boxes: [], labels: [], said: new Set(), laneEnd: -1000 });
      this.sheets.ground.clear();
      this.sheets.ink.clear();
      this.drawGrid(0, this.width, 0);
      this.drawSeconds();
      const first = raftlite.after(frame.records, start - Math.min(5, frame.history.longest), (record) => record.t) + 1;
      for (const n of this.ids) this.drawBefore(n, frame, first);
      this.drawOn(frame, first);
    }

    /** The records from the number `first` on, which come after what is drawn already. */
    drawOn(frame, first) {
      for (let i = first; i <= frame.i; i++) {
        const draw = STEPS[frame.records[i - 1].k];
        if (draw) draw(this, frame.records[i - 1], frame);
      }
    }

    drawGrid(left, right, top) {
      for (const s of this.seconds()) {
        const y = this.y(s);
        if (y >= top) this.sheets.ground.line(Math.max(left, this.lane), y, right, y, "faint", 1);
      }
    }

    drawSeconds() {
      this.sheets.ground.font(13);
      for (const s of this.seconds()) this.sheets.ground.words(`${s} s`, this.width - 6, this.y(s) - 4, "soft", "right");
    }

    seconds() {
      const pixels = 30; // at least between two lines
      const every = [1, 2, 5, 10, 30, 60].find((step) => step * this.scale >= pixels) || 60;
      const first = Math.max(0, Math.ceil(this.origin / every) * every);
      const count = Math.max(0, Math.floor((this.height / this.scale + this.origin - first) / every) + 1);
      return Array.from({ length: count }, (_, k) => first + k * every);
    }

    // --- members ---

    drawBefore(n, frame, first) {
      const spans = frame.history.spans.get(n) || [];
      const span = spans[raftlite.after(spans, first - 1, (each) => each.i) - 1];
      if (span) this.drawBand(n, span, 0);
    }

    /** What a member is, from `top` to the end of the paper: whatever comes later is drawn over it. */
    drawBand(n, span, top) {
      const { ground } = this.sheets;
      const x = this.columns.get(n);
      const wide = this.band;
      ground.clear(x - wide, top, 2 * wide, this.height);
      this.drawGrid(x - wide, x + wide, top);
      const look = words.look(span);
      if (look === "stopped") return ground.line(x, top, x, this.height, "stopped", 2, [3, 8]);
      const [colour, share, strength] = BANDS[look] || BANDS.follower;
      const { context } = ground;
      context.globalAlpha = strength;
      context.fillStyle = ground.colours[colour];
      context.fillRect(x - (share * wide) / 2, top, share * wide, this.height - top);
      context.globalAlpha = 1;
      if (look === "leader") for (const side of [-0.68, 0.68]) ground.line(x + side * wide, top, x + side * wide, this.height, "edge-leader", 2.5);
      if (look.endsWith("candidate")) this.drawHatch(x, share * wide, top);
    }

    drawHatch(x, wide, top) {
      const { ground } = this.sheets;
      const { context } = ground;
      context.globalAlpha = 0.55;
      context.beginPath();
      for (let y = Math.max(top + wide, 0); y < this.height; y += 11) {
        context.moveTo(x - wide / 2, y);
        context.lineTo(x + wide / 2, y - wide);
      }
      ground.finish(null, "edge-candidate", 1.6);
      context.globalAlpha = 1;
    }

    drawChange(record, frame) {
      const spans = frame.history.spans.get(record.n) || [];
      const k = raftlite.after(spans, record.i, (span) => span.i) - 1;
      if (k < 0 || spans[k].i !== record.i || !this.columns.has(record.n)) return;
      this.drawBand(record.n, spans[k], this.y(record.t));
      this.drawPill(record.n, spans[k], this.y(record.t));
    }

    drawPill(n, span, y) {
      const look = words.look(span);
      const { ink } = this.sheets;
      const x = this.columns.get(n);
      const name = `${words.ROLES[look].letter}${look === "paused" || look === "stopped" ? "" : span.term}`;
      ink.font(this.letters, 800);
      const half = ink.context.measureText(name).width / 2 + 7;
      const [fill, stroke, letters] = PILLS[look];
      if (look.endsWith("candidate")) ink.shape([[x - half - 5, y], [x - half, y - 12], [x + half, y - 12], [x + half + 5, y], [x + half, y + 12], [x - half, y + 12]], fill, stroke, 2);
      else {
        ink.context.beginPath();
        ink.context.arc(x - half + 9, y, 12, Math.PI / 2, 1.5 * Math.PI);
        ink.context.arc(x + half - 9, y, 12, 1.5 * Math.PI, Math.PI / 2);
        ink.context.closePath();
        ink.finish(fill, stroke, 2);
      }
      ink.words(name, x, y + 0.36 * this.letters, letters, "center", 0);
      this.occupy({ left: x - half - 4, right: x + half + 4, top: y - 13, bottom: y + 13 });
    }

    // --- what was done to the cluster ---

    drawMark(record) {
      if (record.k === "note" && record.kind !== "note" && record.kind !== undefined) return;
      const { ink } = this.sheets;
      const colour = record.k === "fault" ? "refused" : "ink";
      const y = this.y(record.t);
      ink.context.globalCompositeOperation = "destination-over"; // words that it crosses would look struck out
      ink.line(4, y, this.width, y, colour === "ink" ? "soft" : colour, 1.4, [8, 5]);
      ink.context.globalCompositeOperation = "source-over";
      ink.font(this.letters - 1, 600);
      let top = Math.max(y, this.laneEnd + 4); // below what stands there
      if (top > y + 120) return; // the line alone has to do: the log has the words
      const lines = this.wrapped((record.k === "note" ? "✎ " : "") + words.line(record), this.lane - 14, 3);
      const right = 6 + Math.max(...lines.map((line) => ink.context.measureText(line).width));
      const height = lines.length * (this.letters + 2);
      const clashes = () => this.labels.some(({ box }) => overlap(box, { left: 6, right, top, bottom: top + height }));
      for (let row = 0; clashes() && row < 6; row++) top += 8;
      lines.forEach((line, row) => ink.words(line, 6, top + (row + 1) * (this.letters + 2), colour));
      this.laneEnd = top + height;
      this.occupy({ left: 6, right, top, bottom: this.laneEnd });
    }

    /** `sentence` in at most `rows` lines of this width, where words allow it. */
    wrapped(sentence, width, rows) {
      const { context } = this.sheets.ink;
      const lines = [""];
      for (const word of sentence.split(" ")) {
        const longer = `${lines[lines.length - 1]} ${word}`.trim();
        if (context.measureText(longer).width <= width || longer === word) lines[lines.length - 1] = longer;
        else lines.push(word);
      }
      return lines.length > rows ? [...lines.slice(0, rows - 1), `${lines[rows - 1]}…`] : lines;
    }

    // --- messages ---

    drawEnd(record, frame) {
      const message = frame.history.messages.get(record.m);
      const way = message && this.way(message, record);
      if (!way || (isQuiet(message) && !this.hasHeartbeats)) return;
      const { ink } = this.sheets;
      if (isQuiet(message)) ink.context.globalCompositeOperation = "destination-over"; // below the signs of others
      this.drawShaft(ink, message, way, record.k === "lost" ? [2, 5] : null);
      ink.context.globalCompositeOperation = "source-over";
      if (record.k === "lost") ink.cross(way.x2, way.y2, isQuiet(message) ? 5 : 7, "refused");
      else ink.message(message, way.x2, way.y2, isQuiet(message) ? 8 : 10, way.angle);
      if (!isQuiet(message)) this.occupy({ left: way.x2 - 11, right: way.x2 + 11, top: way.y2 - 11, bottom: way.y2 + 11 });
      this.label(message, record, way);
    }

    drawShaft(sheet, message, { x1, y1, x2, y2 }, dash) {
      const [colour, width] = SHAFTS[message.type] || ["soft", 2];
      const judged = message.granted === true ? "granted" : message.granted === false ? "refused" : colour;
      sheet.line(x1, y1, x2, y2, judged, width, dash);
    }

    /** The line of a message that ends as `end` says. */
    way(message, end) {
      const [from, to] = [this.columns.get(message.from), this.columns.get(message.to)];
      if (from === undefined || to === undefined) return null;
      const side = Math.sign(to - from) || 1;
      const x1 = from + side * (this.band / 2 + 2);
      const isLost = end.k === "lost" || end.isLost;
      const x2 = to - side * (isLost ? 0.46 * this.space : this.band / 2 + (GAPS[message.type] || 11)); // lost in front of its receiver
      const [y1, y2] = [this.y(message.t), this.y(end.t)];
      return { x1, y1, x2, y2, side, angle: Math.atan2(y2 - y1, x2 - x1) };
    }

    label(message, end, way) {
      const isRefused = end.result === "refused" || end.result === "stepped down";
      if (isRefused && end.why) return this.place(words.brief(end.why), this.columns.get(message.to), way.y2, way.side, this.band / 2 + 8);
      if (end.k !== "lost" || end.why === "cut" || isQuiet(message)) return; // a cut is said beside it, for all messages
      const sentence = words.lost(end.why, this.space < NARROW);
      const key = `${message.from} ${Math.floor(message.t / REPEAT)} ${sentence}`;
      if (!this.said.has(key)) this.place(sentence, way.x2, way.y2 + 20, 0, 0);
      this.said.add(key);
    }

    /** Puts words beside a point, or around it for side 0: there if there is room, further down where others stand, or
     * not at all. */
    place(sentence, x, y, side, gap) {
      const { letters } = this;
      const { ink } = this.sheets;
      ink.font(letters, 600);
      const lines = this.wrapped(sentence, Math.max(58, this.space - this.band - 2 * gap + 8), 3);
      const width = Math.max(...lines.map((line) => ink.context.measureText(line).width));
      let isRight = side > 0;
      if (isRight && x + gap + width > this.width) isRight = false;
      if (!isRight && x - gap - width < 4) isRight = true;
      const beside = side === 0 ? x - width / 2 : isRight ? x + gap : x - gap - width;
      const left = Math.max(4, Math.min(beside, this.width - width - 2));
      const box = { left, right: left + width, top: y - 14, bottom: y - 9 + lines.length * (letters - 1) };
      const clashes = () => this.boxes.some((other) => overlap(box, other));
      for (let row = 0; clashes() && row < 6; row++) [box.top, box.bottom] = [box.top + 8, box.bottom + 8];
      if (clashes()) return;
      this.boxes.push(box);
      this.labels.push({ box, lines });
      this.write(this.labels[this.labels.length - 1]);
    }

    write({ box, lines }) {
      const { letters } = this;
      const { ink } = this.sheets;
      ink.font(letters, 600);
      lines.forEach((line, row) => ink.words(line, box.left, box.top + (row + 1) * (letters - 1) - 1, "refused"));
    }

    /** A sign has been drawn here: no words come into its place, and those that stand there stay above it. */
    occupy(box) {
      this.boxes.push(box);
      for (const label of this.labels) if (overlap(label.box, box)) this.write(label);
    }

    // --- what is on its way, and what is selected ---

    drawAir(frame) {
      const { air } = this.sheets;
      air.clear();
      for (const send of frame.view.inFlight.values()) {
        const message = frame.history.messages.get(send.m);
        const end = message && this.expected(message, frame);
        if (!end || (isQuiet(message) && !this.hasHeartbeats)) continue;
        if (this.y(end.t) < 0) continue; // above the paper: it waits for a member that is paused
        const way = this.way(message, end);
        if (way) this.drawShaft(air, message, way, [7, 5]);
      }
      const chosen = frame.history.messages.get(frame.selectedMessage);
      for (const end of chosen ? this.endsOf(chosen, frame) : []) {
        const way = this.way(chosen, end);
        if (way) air.line(way.x1, way.y1, way.x2, way.y2, "ink", 5);
      }
    }

    expected(message, frame) {
      if (frame.view.held.has(message.m)) return { t: frame.t + 1 };
      return { t: message.eta === null ? message.t + 0.5 : message.eta, isLost: message.eta === null };
    }

    endsOf(message, frame) {
      const ends = message.ends.filter((end) => end.i <= frame.i);
      return ends.length ? ends : [this.expected(message, frame)];
    }

    /** The message whose line runs past a point; null if there is none. */
    near(frame, x, y) {
      let [found, least] = [null, NEAR];
      for (const message of frame.history.messagesIn(this.origin, frame.t)) {
        if (message.i > frame.i || (isQuiet(message) && !this.hasHeartbeats)) continue;
        for (const end of this.endsOf(message, frame)) {
          const way = this.way(message, end);
          const far = way ? distance(x, y, way) + (isQuiet(message) ? 3 : 0) : Infinity; // of two, the rarer one
          if (far < least) [found, least] = [message.m, far];
        }
      }
      return found;
    }
  }

  const overlap = (a, b) => a.left < b.right && a.right > b.left && a.top < b.bottom && a.bottom > b.top;

  /** How far a point is from a line. */
  function distance(x, y, { x1, y1, x2, y2 }) {
    const [dx, dy] = [x2 - x1, y2 - y1];
    const along = Math.max(0, Math.min(1, ((x - x1) * dx + (y - y1) * dy) / (dx * dx + dy * dy || 1)));
    return Math.hypot(x - x1 - along * dx, y - y1 - along * dy);
  }

  // How wide and how strong: a role can be told from the others without its colour.
  const BANDS = raftlite.table({
    follower: ["follower", 0.55, 0.5], "pre-candidate": ["candidate", 0.8, 0.35], candidate: ["candidate", 1, 1], leader: ["leader", 1, 1], paused: ["stopped", 0.55, 0.8],
  });
  const PILLS = raftlite.table({
    follower: ["follower", "panel", "on-follower"], "pre-candidate": ["panel", "edge-candidate", "ink"], candidate: ["candidate", "panel", "on-candidate"],
    leader: ["leader", "edge-leader", "on-leader"], stopped: ["panel", "stopped", "ink"], paused: ["panel", "stopped", "ink"],
  });
  const SHAFTS = raftlite.table({
    vote_req: ["edge-candidate", 3], pre_vote_req: ["edge-candidate", 1.8], vote_resp: ["soft", 2.4], pre_vote_resp: ["soft", 1.8],
    heartbeat: ["quiet", 1.4], heartbeat_resp: ["line", 1.2], timeout_now: ["ink", 3],
  });

  const change = (paper, record, frame) => paper.drawChange(record, frame);
  const end = (paper, record, frame) => paper.drawEnd(record, frame);
  const mark = (paper, record) => paper.drawMark(record);
  const STEPS = raftlite.table({ state: change, start: change, stop: change, pause: change, resume: change, recv: end, lost: end, fault: mark, note: mark, act: mark });

  raftlite.Paper = Paper;
})((window.raftlite = window.raftlite || {}));
