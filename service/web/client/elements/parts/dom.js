/**
 * Nodes of the page, made without HTML text. What a person or a model wrote becomes a text node or
 * the value of an attribute, so it can never become an element or a script.
 */

/** @typedef {Node | string | number | boolean | null | undefined} Leaf */
/** @typedef {Leaf | readonly any[]} Child */
/** @typedef {Record<string, unknown>} Attributes */
/** @typedef {Record<string, (event: any) => void>} Listeners */

const SVG = 'http://www.w3.org/2000/svg'

/** @type {WeakMap<Node, Listeners>} */
const listeners = new WeakMap()
/** @type {WeakMap<Node, Record<string, unknown>>} */
const properties = new WeakMap()
/** @type {WeakMap<Node, string>} */
const keys = new WeakMap()

/**
 * An HTML element. `onclick: f` listens, `'.data': x` sets a property, `key: k` names the node for
 * `patch`, and every other member is an attribute; null, undefined and false leave it out.
 * @template {string} K
 * @param {K} tag
 * @param {Attributes | null} [attributes]
 * @param {Child[]} children
 * @returns {K extends keyof HTMLElementTagNameMap ? HTMLElementTagNameMap[K] : HTMLElement}
 */
export function h(tag, attributes, ...children) {
  const made = /** @type {any} */ (document.createElement(tag))
  return fill(made, attributes, children)
}

/**
 * An SVG element, with the same attributes.
 * @param {string} tag
 * @param {Attributes | null} [attributes]
 * @param {Child[]} children
 * @returns {SVGElement}
 */
export function svg(tag, attributes, ...children) {
  return fill(/** @type {SVGElement} */ (document.createElementNS(SVG, tag)), attributes, children)
}

/**
 * @template {Element} T
 * @param {T} node @param {Attributes | null | undefined} attributes @param {Child[]} children
 * @returns {T}
 */
function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue
    if (name === 'key') keys.set(node, String(value))
    else if (name.startsWith('.')) remember(node, name.slice(1), value)
    else if (name.startsWith('on')) listen(node, name.slice(2), value)
    else node.setAttribute(name, value === true ? '' : String(value))
  }
  node.append(...nodesOf(children))
  return node
}

/** @param {Element} node @param {string} name @param {unknown} value */
function remember(node, name, value) {
  properties.set(node, { ...properties.get(node), [name]: value })
  Reflect.set(node, name, value)
}

/** @param {Element} node @param {string} type @param {unknown} listener */
function listen(node, type, listener) {
  if (typeof listener !== 'function') throw new TypeError(`on${type} takes a function`)
  listeners.set(node, { ...listeners.get(node), [type]: /** @type {any} */ (listener) })
  node.addEventListener(type, hear)
}

/** @param {Event} event */
function hear(event) {
  const node = /** @type {Element} */ (event.currentTarget)
  listeners.get(node)?.[event.type]?.call(node, event)
}

/**
 * Children as nodes: arrays are flattened, and what stands for nothing is left out.
 * @param {readonly Child[]} children
 * @returns {Node[]}
 */
export function nodesOf(children) {
  return children.flatMap(child => {
    if (Array.isArray(child)) return nodesOf(child)
    if (child === null || child === undefined || typeof child === 'boolean' || child === '') return []
    return [child instanceof Node ? child : document.createTextNode(String(child))]
  })
}

/**
 * Make the children of `parent` equal to `children`, and keep every node that can stay: the focus,
 * a selection, the scroll position and an open `<details>` survive. A node that is a child already
 * stays as it is.
 * @param {Node} parent
 * @param {Child[]} children
 */
export function patch(parent, ...children) {
  const old = [...parent.childNodes]
  const wanted = nodesOf(children)
  const staying = new Set(wanted)
  const named = new Map(old.flatMap(node => (keys.has(node) ? [[keys.get(node), node]] : [])))
  const plain = old.filter(node => !keys.has(node) && !staying.has(node))
  let next = 0
  const kept = new Set()
  const nodes = wanted.map(node => {
    if (node.parentNode === parent) return kept.add(node), node
    const key = keys.get(node)
    const found = key === undefined ? plain.slice(next).find(each => each.nodeName === node.nodeName)
      : named.get(key)
    if (!found || found.nodeName !== node.nodeName || kept.has(found)) return node
    if (key === undefined) next = plain.indexOf(found, next) + 1
    kept.add(found)
    update(found, node)
    return found
  })
  for (const node of old) if (!kept.has(node)) node.remove()
  place(parent, nodes)
}

/** @param {Node} parent @param {Node[]} nodes */
function place(parent, nodes) {
  let at = parent.firstChild
  for (const node of nodes) {
    if (node === at) at = at.nextSibling
    else parent.insertBefore(node, at)
  }
}

/** @param {Node} old @param {Node} wanted */
function update(old, wanted) {
  if (!(old instanceof Element) || !(wanted instanceof Element)) {
    if (old.nodeValue !== wanted.nodeValue) old.nodeValue = wanted.nodeValue
    return
  }
  for (const { name } of [...old.attributes]) {
    if (!wanted.hasAttribute(name) && !isUsers(old, name)) old.removeAttribute(name)
  }
  for (const { name, value } of wanted.attributes) {
    if (old.getAttribute(name) !== value && !isUsers(old, name)) old.setAttribute(name, value)
  }
  for (const [type, listener] of Object.entries(listeners.get(wanted) ?? {})) {
    listen(old, type, listener)
  }
  for (const [name, value] of Object.entries(properties.get(wanted) ?? {})) {
    remember(old, name, value)
  }
  if (!old.localName.includes('-')) patch(old, ...wanted.childNodes)
}

/**
 * Whether the attribute belongs to the user, as the open part of a page does.
 * @param {Element} node @param {string} name
 */
function isUsers(node, name) {
  return name === 'open' && node.localName === 'details'
}

/**
 * Make `parent` show one node for each item, in their order. A node is made once for each key, moves
 * with its item, and is told of the item by `renew`.
 * @template T
 * @param {Element} parent
 * @param {readonly T[]} items
 * @param {(item: T) => string} keyOf
 * @param {(item: T) => Element} make
 * @param {(node: Element, item: T) => void} [renew]
 */
export function keyed(parent, items, keyOf, make, renew) {
  const named = new Map([...parent.children].map(node => [keys.get(node), node]))
  const nodes = items.map(item => {
    const key = keyOf(item)
    const known = named.get(key)
    named.delete(key)
    const node = known ?? make(item)
    if (known) renew?.(known, item)
    keys.set(node, key)
    return node
  })
  for (const node of named.values()) node.remove()
  place(parent, nodes)
}

/**
 * A style sheet for `adoptedStyleSheets`.
 * @param {string} text
 */
export function sheet(text) {
  const made = new CSSStyleSheet()
  made.replaceSync(text)
  return made
}
