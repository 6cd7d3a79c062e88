/* Elements, and the shapes of members: told apart by form and letter first and by colour second. */
"use strict";

(function (raftlite) {
  const SVG = "http://www.w3.org/2000/svg";

  /** A new element; `attributes` with the value null are left out. */
  function svg(name, attributes, ...children) {
    return fill(document.createElementNS(SVG, name), attributes, children);
  }

  function html(name, attributes, ...children) {
    return fill(document.createElement(name), attributes, children);
  }

  function fill(element, attributes, children) {
    set(element, attributes || {});
    element.append(...children.filter((child) => child !== null && child !== undefined));
    return element;
  }

  function set(element, attributes) {
    for (const [name, value] of Object.entries(attributes)) {
      if (value === null || value === undefined || value === false) element.removeAttribute(name);
      else element.setAttribute(name, value === true ? "" : value);
    }
    return element;
  }

  /** Writes only what has changed: the rest costs a layout. */
  function text(element, value) {
    if (element.firstChild && element.firstChild.nodeType === 3 && element.firstChild.data === value) return;
    element.textContent = value;
  }

  const round = (value) => Math.round(value * 10) / 10;
  const points = (pairs) => pairs.map(([x, y]) => `${round(x)},${round(y)}`).join(" ");

  /** A diamond with notched edges, of about the size of a circle with the radius `r`. */
  function diamond(r) {
    const far = 1.22 * r;
    const near = 0.5 * r;
    const corners = [[0, -far], [near, -near], [far, 0], [near, near], [0, far], [-near, near], [-far, 0], [-near, -near]];
    return points(corners);
  }

  /** The form of a member: `look` is its role, or stopped, or paused. */
  function member(look, r) {
    const shape = svg("g", { class: `member ${look}` });
    if (look === "candidate" || look === "pre-candidate") {
      shape.append(svg("polygon", { class: "body", points: diamond(r) }));
    } else {
      shape.append(svg("circle", { class: "body", r: look === "leader" ? r * 0.88 : r }));
    }
    if (look === "leader") shape.append(svg("circle", { class: "outer", r: r * 1.06 }));
    if (look === "paused") {
      for (const x of [-0.24, 0.24]) {
        shape.append(svg("rect", { class: "bars", x: r * x - r * 0.09, y: r * 0.38, width: r * 0.18, height: r * 0.42 }));
      }
    }
    return shape;
  }

  const cross = (r) => svg("path", { class: "sign cross", d: `M${-r},${-r}L${r},${r}M${-r},${r}L${r},${-r}` });

  /** How much of the timer of `node` is left at `t`, from 1 to 0; null without a timer. */
  function timeLeft(node, t) {
    if (node.deadline === null || !node.isUp || !(node.span > 0)) return null;
    return Math.max(0, Math.min(1, (node.deadline - t) / node.span));
  }

  raftlite.draw = { svg, html, set, text, member, cross, timeLeft };
})((window.raftlite = window.raftlite || {}));
