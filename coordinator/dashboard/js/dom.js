// Building and changing the page. Whatever comes from outside (ids, keys, messages of servers) becomes a text node and
// never markup: no module of this page parses HTML.

/**
 * An element. `properties`: `class`, `on` (listeners), `data` and attributes; `null` and `false` leave one out.
 * Children are nodes or text.
 */
export function h(name, properties = {}, ...children) {
  return fill(document.createElement(name), properties, children);
}

const SVG = "http://www.w3.org/2000/svg";

/** The same within an `<svg>`. */
export function s(name, properties = {}, ...children) {
  return fill(document.createElementNS(SVG, name), properties, children);
}

function fill(element, properties, children) {
  for (const [key, value] of Object.entries(properties)) {
    if (key === "on") {
      for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    } else if (key === "data") {
      Object.assign(element.dataset, value);
    } else if (value !== null && value !== undefined && value !== false) {
      element.setAttribute(key, value === true ? "" : value);
    }
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** The parts of a text in which `backticks` stand around what is typed: those as code. */
export function spoken(text) {
  return (text ?? "").split("`").map((part, place) => (place % 2 === 0 ? part : h("code", {}, part)));
}

/** The element with this id, which the page has. */
export function byId(id) {
  return document.getElementById(id);
}

/** Sets the text where it differs: what is the same keeps its selection. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Sets an attribute where it differs; `null` removes it. */
export function setAttribute(element, name, value) {
  if (value === null || value === undefined || value === false) {
    if (element.hasAttribute(name)) element.removeAttribute(name);
  } else if (element.getAttribute(name) !== String(value)) {
    element.setAttribute(name, value);
  }
}

/** Sets a custom property of CSS where it differs. */
export function setStyle(element, name, value) {
  if (element.style.getPropertyValue(name) !== value) element.style.setProperty(name, value);
}

/** Shows or hides. */
export function show(element, shown) {
  if (element.hidden === shown) element.hidden = !shown;
}

/** Replaces the children only if `signature` differs from that of the last time: focus and selection survive. */
export function renew(element, signature, make) {
  if (element.renewedFor === signature) return;
  element.renewedFor = signature;
  element.replaceChildren(...[make()].flat().filter(Boolean));
}

/**
 * Makes the children of `parent` those of `items`, in their order. Elements are kept by key, so that focus, selection
 * and animations survive; `update` is called for each.
 */
export function reconcile(parent, items, keyOf, create, update) {
  const known = (parent.known ??= new Map());
  const wanted = new Map(items.map((item) => [keyOf(item), item]));
  for (const [key, element] of known) {
    if (!wanted.has(key)) {
      element.remove();
      known.delete(key);
    }
  }
  let place = parent.firstElementChild;
  for (const [key, item] of wanted) {
    if (!known.has(key)) known.set(key, create(item));
    const element = known.get(key);
    if (element === place) {
      place = place.nextElementSibling;
    } else {
      parent.insertBefore(element, place);
    }
    update(element, item);
  }
}
