// Makes elements, and brings what is on the page to what should be there without replacing it: whoever has selected a
// text, opened a list or listens to it keeps that. Data becomes text nodes and attributes, never markup.

const SVG = 'http://www.w3.org/2000/svg';

/** An element: attributes that are null, undefined or false are left out, children too. */
const make = (space) => (name, attributes = {}, ...children) => {
  const made = space ? document.createElementNS(space, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) made.setAttribute(key, value === true ? '' : value);
  }
  made.append(...children.flat(9).filter((child) => child !== null && child !== undefined && child !== false));
  return made;
};

export const el = make();
export const svg = make(SVG);

/** Text in which `words in backticks` are code. */
export const prose = (text) => text.split('`').map((piece, i) => (i % 2 ? el('code', {}, piece) : piece));

/** What is `open` is the reader's business. */
const OURS = (name) => name !== 'open';

const keyOf = (node) => node.dataset?.key;
const alike = (old, fresh) => old.nodeName === fresh.nodeName && keyOf(old) === keyOf(fresh);

function match(old, fresh) {
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  for (const { name, value } of fresh.attributes) {
    if (OURS(name) && old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  for (const { name } of [...old.attributes]) {
    if (OURS(name) && !fresh.hasAttribute(name)) old.removeAttribute(name);
  }
  become(old, [...fresh.childNodes]);
}

/** Has `place` hold these nodes; those with a `data-key` keep their element wherever they move. */
function become(place, fresh) {
  const kept = new Map([...place.children].filter(keyOf).map((child) => [keyOf(child), child]));
  let at = place.firstChild;
  for (const node of fresh) {
    const key = keyOf(node);
    const old = key ? kept.get(key) : at;
    if (!old || !alike(old, node)) {
      place.insertBefore(node, at);
      continue;
    }
    if (old === at) at = at.nextSibling;
    else place.insertBefore(old, at);
    match(old, node);
  }
  while (at) {
    const gone = at;
    at = at.nextSibling;
    gone.remove();
  }
}

/** Has `place` show these children. */
export function show(place, ...children) {
  become(place, [...el('div', {}, ...children).childNodes]);
}
