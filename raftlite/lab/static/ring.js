/* The ring: the members and the links between them. What moves over it is in flight.js. */
"use strict";

(function (raftlite) {
  const { draw } = raftlite;
  const { svg, set, text } = draw;
  class Ring {
    /** `act` is told what is done by hand: select, selectMessage, link, split. */
    constructor(element, canvas, act) {
      this.element = element;
      this.flight = new raftlite.Flight(canvas);
      this.act = act;
      this.layers = {};
      for (const name of ["links", "nodes", "hand"]) {
        this.layers[name] = svg("g", { class: name, "aria-hidden": name === "nodes" ? null : "true" });
        element.append(this.layers[name]);
      }
      set(element, { role: "group", "aria-label": "Ring of members" });
      this.hand = new raftlite.Hand(this);
      new ResizeObserver(() => this.resize()).observe(element.parentElement);
    }

    reset(header) {
      this.ids = header.nodes;
      this.frame = this.nodes = null; // of other members; if the ring is hidden now, it is drawn when it is seen again
      this.resize();
    }

    resize() {
      const { clientWidth: width, clientHeight: height } = this.element.parentElement;
      if (!this.ids || !width || !height) return;
      set(this.element, { viewBox: `0 0 ${width} ${height}` });
      this.isWide = width > 480;
      this.layOut(width, height);
      this.flight.resize(width, height, this.places, this.size);
      this.nodes = new Map();
      this.drawnLinks = null;
      for (const layer of Object.values(this.layers)) layer.replaceChildren();
      for (const n of this.ids) this.nodes.set(n, this.newNode(n));
      if (this.frame) this.draw(this.frame);
    }

    /** Places the members on an ellipse that leaves room for their names. */
    layOut(width, height) {
      const count = this.ids.length;
      const share = count <= 5 ? 0.099 : count <= 7 ? 0.085 : Math.min(0.072, 0.66 / count);
      this.size = Math.max(7, Math.min(0.9 * width, height) * share);
      this.letters = Math.max(17, this.size * 0.58);
      const around = 1.64 * this.size;
      const lift = count % 2 && count > 1 ? (1 - Math.cos(Math.PI / count)) / 2 : 0; // an odd ring has no member at its very bottom
      const up = (height - 2 * around - 1.25 * this.letters) / (2 - 2 * lift);
      const across = Math.max(30, Math.min(width / 2 - around - 6, 1.6 * up));
      this.places = new Map(this.ids.map((n, k) => {
        const angle = (2 * Math.PI * k) / count - Math.PI / 2;
        return [n, { x: width / 2 + across * Math.cos(angle), y: around + up * (1 + Math.sin(angle)), angle }];
      }));
    }

    newNode(n) {
      const { x, y } = this.places.get(n);
      const r = this.size;
      const node = {
        look: "",
        shape: svg("g", {}),
        track: svg("circle", { class: "track", r: r * 1.42 }),
        letter: svg("text", { class: "letter", y: r * 0.06, "font-size": r * 0.92 }),
        term: svg("text", { class: "in-term", y: r * 0.62, "font-size": r * 0.4 }),
      };
      const [name, below] = this.newLabels(n);
      node.below = below;
      const halo = svg("circle", { class: "halo", r: r * 1.6 });
      const hit = svg("circle", { class: "hit", r: r * 1.5 });
      node.group = svg("g", { class: "node", transform: `translate(${x.toFixed(1)} ${y.toFixed(1)})`, role: "button", tabindex: "0", "data-node": n },
        halo, hit, node.track, node.shape, node.letter, node.term, name);
      this.layers.nodes.append(node.group);
      return node;
    }

    /** The name of a member, and beside it whatever else there is to say: above it, below it, or at its side. */
    newLabels(n) {
      const { angle } = this.places.get(n);
      const isBeside = Math.abs(Math.cos(angle)) < 0.3;
      const away = this.size * 1.62;
      const x = isBeside ? away + 8 : 0;
      const y = isBeside ? 0 : Math.sin(angle) < 0.1 ? -away - 5 : away + this.letters * 0.82;
      const line = isBeside ? { x, dy: this.letters * 0.85 } : { dx: 7 };
      const below = svg("tspan", { class: "below", "font-size": Math.max(14, this.letters * 0.62), ...line });
      const name = svg("text", { class: "name", x, y, "text-anchor": isBeside ? "start" : "middle", "font-size": this.letters }, n.length > 12 ? `${n.slice(0, 11)}…` : n, " ", below);
      return [name, below];
    }

    draw(frame) {
      this.frame = frame;
      if (!this.nodes) return;
      this.drawLinks(frame.view.links);
      for (const n of this.ids) this.drawNode(n, frame.view.node(n), frame);
      this.flight.draw(frame);
    }

    drawNode(n, node, frame) {
      const drawn = this.nodes.get(n);
      if (drawn.node !== node || drawn.isSelected !== (frame.selected === n)) this.drawFacts(n, node, drawn, frame);
    }

    drawFacts(n, node, drawn, frame) {
      const look = raftlite.words.look(node);
      drawn.node = node;
      drawn.isSelected = frame.selected === n;
      if (look !== drawn.look) drawn.shape.replaceChildren(draw.member(look, this.size));
      drawn.look = look;
      set(drawn.group, {
        class: `node is-${look}${drawn.isSelected ? " selected" : ""}`,
        "aria-label": raftlite.words.summary(n, node),
        "aria-pressed": String(drawn.isSelected),
      });
      text(drawn.letter, raftlite.words.role(node).letter);
      text(drawn.term, look === "paused" ? "" : `T${node.term}`);
      text(drawn.below, this.remark(node, look));
    }

    remark(node, look) {
      if (!this.isWide) return "";
      if (look === "paused") return `was ${node.role} T${node.term}`;
      if (look === "candidate" || look === "pre-candidate") return `${node.votes.length}/${this.ids.length} votes`;
      return "";
    }

    drawLinks(links) {
      if (this.drawnLinks === links) return;
      this.drawnLinks = links;
      const cut = new Set(links.cut.map(([a, b]) => `${a}\n${b}`));
      this.layers.links.replaceChildren();
      this.ids.forEach((a, k) => this.ids.slice(k + 1).forEach((b) => {
        const there = cut.has(`${a}\n${b}`);
        const back = cut.has(`${b}\n${a}`);
        this.layers.links.append(this.newLink(a, b, there, back));
      }));
    }

    newLink(a, b, there, back) {
      const [from, to] = [this.places.get(a), this.places.get(b)];
      const state = there && back ? "cut" : there || back ? "cut one-way" : "";
      const link = svg("g", { class: `link ${state}`, "data-link": `${a} ${b}` }, svg("line", { x1: from.x, y1: from.y, x2: to.x, y2: to.y }));
      if (!there && !back) return link;
      const middle = { x: (from.x + to.x) / 2, y: (from.y + to.y) / 2 };
      const angle = (Math.atan2(to.y - from.y, to.x - from.x) * 180) / Math.PI + (there ? 0 : 180);
      const mark = svg("g", { class: "scissors", transform: `translate(${middle.x} ${middle.y})` }, svg("circle", { r: 11 }), draw.cross(5));
      if (there !== back) mark.append(svg("path", { class: "way", d: "M14,-7L24,0L14,7Z", transform: `rotate(${angle})` }));
      link.append(mark);
      return link;
    }
  }

  raftlite.Ring = Ring;
})((window.raftlite = window.raftlite || {}));
