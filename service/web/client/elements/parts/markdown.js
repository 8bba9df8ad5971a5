/**
 * Markdown as nodes of the page: headings, lists, code, tables, quotes, emphasis, links.
 *
 * HTML in a text is text. A link leads to http, https or mail; a picture is part of the text or of
 * this origin; everything else is shown as it was written. The work for a text grows with its length
 * alone, whatever is in it: nesting has a bound, and no pattern goes back over more than a line.
 */

import { h, nodesOf, patch } from './dom.js'
import { codeBlock, path, plain, restOf } from './small.js'
import { t } from '../../texts.js'

/** @typedef {{ level?: number }} Options */
/** @typedef {{ depth: number, heading: number, least: number }} Place */
/** @typedef {{ mark: string, length: number, nodes: Node[] }} Frame */
/** @typedef {(line: string, lines: string[], at: number, place: Place) => [Node, number] | null} Reader */

const MOST_TEXT = 100_000
const MOST_PHRASE = 5_000
const MOST_DEPTH = 8
const MOST_FRAMES = 16
const MOST_COLUMNS = 40

const FENCE = /^ {0,3}(```+|~~~+)([^`]*)$/
const HEADING = /^ {0,3}(#{1,6})(?:\s+(.*))?$/
const RULE = /^ {0,3}(?:(?:\*\s*){3,}|(?:-\s*){3,}|(?:_\s*){3,})$/
const QUOTE = /^ {0,3}> ?/
const ITEM = /^( {0,3})([-*+]|\d{1,9}[.)])(?: +(?=\S)| *$)/
const DELIMITERS = /^ {0,3}\|?(?:\s*:?-+:?\s*\|)+(?:\s*:?-+:?\s*)?$/
const BLANK = /^\s*$/

/**
 * A text as nodes.
 * @param {string} text
 * @param {Options} [options] `level`: the level of the first heading
 * @returns {DocumentFragment}
 */
export function markdown(text, options) {
  const made = document.createDocumentFragment()
  for (const { node } of read(text.slice(0, MOST_TEXT), firstPlace(options))) made.append(node)
  made.append(...nodesOf([restOf(text, MOST_TEXT)]))
  return made
}

/**
 * A text that grows: only its last blocks are made again, those that more text may still change. An
 * empty line ends them, unless it follows a list. `node` shows the text at any time as
 * `markdown` would.
 */
export class GrowingMarkdown {
  node = h('div', { class: 'markdown' })
  #text = ''
  #settled = 0
  /** @type {Node[]} */
  #nodes = []
  /** The nodes of a text that is longer than what is shown. @type {Node[]} */
  #shown = []
  /** @type {Place} */
  #place

  /** @param {Options} [options] */
  constructor(options) {
    this.#place = firstPlace(options)
    this.options = options
  }

  /** @param {string} text */
  update(text) {
    if (text === this.#text) return
    const isLonger = text.startsWith(this.#text)
    // Of what is behind the end of what is shown, only the length is shown.
    if (isLonger && this.#text.length >= MOST_TEXT) patch(this.node, this.#shown, restOf(text, MOST_TEXT))
    else this.#grow(text, isLonger)
    this.#text = text
  }

  /** @param {string} text @param {boolean} isLonger */
  #grow(text, isLonger) {
    if (!isLonger) this.#restart()
    const blocks = [...read(text.slice(this.#settled, MOST_TEXT), { ...this.#place })]
    patch(this.node, this.#nodes, blocks.map(block => block.node), restOf(text, MOST_TEXT))
    if (text.length >= MOST_TEXT) this.#shown = [...this.node.childNodes].slice(0, this.#nodes.length + blocks.length)
    const open = blocks.findLastIndex((each, index) => each.isApart && !/^[OU]L$/.test(blocks[index - 1]?.node.nodeName ?? ''))
    const first = blocks[Math.max(0, open)]
    if (!first) return
    this.#nodes = [...this.node.childNodes].slice(0, this.#nodes.length + Math.max(0, open))
    this.#settled += first.start
    this.#place = first.place
  }

  #restart() {
    this.#settled = 0
    this.#nodes = []
    this.#place = firstPlace(this.options)
  }
}

/** @param {Options | undefined} options @returns {Place} */
const firstPlace = options => ({ depth: 0, heading: 0, least: options?.level ?? 3 })

/**
 * The blocks of a text: the offset at which each begins, the place before it, and whether an empty
 * line is before it.
 * @param {string} text @param {Place} place
 */
function* read(text, place) {
  const lines = text.replaceAll('\t', '    ').split('\n')
  const lengths = text.split('\n')
  let start = 0
  let at = 0
  while (at < lines.length) {
    const before = { ...place }
    const [node, next] = block(lines, at, place)
    if (node) yield { node, start, place: before, isApart: BLANK.test(lines[at - 1] ?? '') }
    for (; at < next; at++) start += (lengths[at]?.length ?? 0) + 1
  }
}

/**
 * The block that begins at a line, and the line after it.
 * @param {string[]} lines @param {number} at @param {Place} place
 * @returns {[Node | null, number]}
 */
function block(lines, at, place) {
  const line = (lines[at] ?? '').trimEnd()
  if (BLANK.test(line)) return [null, at + 1]
  for (const reader of READERS) {
    const found = reader(line, lines, at, place)
    if (found) return found
  }
  let end = at + 1
  while (end < lines.length && !interrupts(lines, end)) end++
  return [h('p', { dir: 'auto' }, inline(lines.slice(at, end).map(each => each.trimStart()).join('\n'))), end]
}

/** @param {string[]} lines @param {number} at */
function interrupts(lines, at) {
  const line = (lines[at] ?? '').trimEnd()
  return BLANK.test(line) || FENCE.test(line) || HEADING.test(line) || RULE.test(line) || QUOTE.test(line)
    || ITEM.test(line) || isTable(line, lines, at)
}

/** @type {Reader} */
function fence(line, lines, at) {
  const found = FENCE.exec(line)
  if (!found) return null
  const mark = found[1] ?? '```'
  let end = at + 1
  while (end < lines.length && !isClosing(lines[end] ?? '', mark)) end++
  return [codeBlock(lines.slice(at + 1, end).join('\n'), (found[2] ?? '').trim().slice(0, 40)), end + 1]
}

/** @param {string} line @param {string} mark */
function isClosing(line, mark) {
  const closing = line.trim()
  return closing.length >= mark.length && closing.startsWith(mark) && closing === mark.charAt(0).repeat(closing.length)
}

/**
 * A heading is never more than one level below the one before it.
 * @type {Reader}
 */
function heading(line, _lines, at, place) {
  const found = HEADING.exec(line)
  if (!found) return null
  const marks = (found[1] ?? '#').length
  const level = Math.min(6, marks + place.least - 1, place.heading ? place.heading + 1 : place.least)
  place.heading = Math.max(level, place.least)
  return [h(`h${level}`, { dir: 'auto' }, inline((found[2] ?? '').replace(/\s#+$/, ''))), at + 1]
}

/** @type {Reader} */
const rule = (line, _lines, at) => (RULE.test(line) ? [h('hr'), at + 1] : null)

/** @type {Reader} */
function quote(line, lines, at, place) {
  if (!QUOTE.test(line)) return null
  let end = at
  while (end < lines.length && QUOTE.test(lines[end] ?? '')) end++
  const inner = lines.slice(at, end).map(each => each.replace(QUOTE, ''))
  return [h('blockquote', { dir: 'auto' }, within(inner, place)), end]
}

/** @type {Reader} */
function items(line, lines, at, place) {
  const first = ITEM.exec(line)
  if (!first) return null
  const mark = (first[2] ?? '').slice(-1)
  const numbered = /[.)]/.test(mark)
  const made = []
  let end = at
  for (let found = /** @type {RegExpExecArray | null} */ (first); found && (found[2] ?? '').slice(-1) === mark;) {
    const next = endOfItem(lines, end, found[0].length)
    made.push(item([(lines[end] ?? '').slice(found[0].length), ...lines.slice(end + 1, next)], found[0].length, place))
    for (end = next; end < lines.length && BLANK.test(lines[end] ?? ''); end++);
    const after = (lines[end] ?? '').trimEnd()
    found = RULE.test(after) ? null : ITEM.exec(after)
  }
  const start = numbered ? parseInt(first[2] ?? '1', 10) : 1
  return [h(numbered ? 'ol' : 'ul', { dir: 'auto', start: start === 1 ? null : start }, made), end]
}

/**
 * The line after an item: what is indented belongs to it, and what goes on without a gap.
 * @param {string[]} lines @param {number} at @param {number} indent
 */
function endOfItem(lines, at, indent) {
  let end = at + 1
  for (let gap = false; end < lines.length; end++) {
    const line = lines[end] ?? ''
    if (BLANK.test(line)) gap = true
    else if (indentOf(line) >= Math.min(indent, 2)) gap = false
    else if (gap || interrupts(lines, end)) break
  }
  while (end > at + 1 && BLANK.test(lines[end - 1] ?? '')) end--
  return end
}

/** @param {string} line */
const indentOf = line => line.length - line.trimStart().length

/** @param {string[]} lines @param {number} indent @param {Place} place */
function item(lines, indent, place) {
  const inner = lines.map((line, index) => (index ? line.slice(Math.min(indent, indentOf(line))) : line))
  const task = /^\[([ xX])\]\s+/.exec(inner[0] ?? '')
  if (task) inner[0] = (inner[0] ?? '').slice(task[0].length)
  const nodes = within(inner, place)
  const only = nodes[0]
  const tight = only instanceof HTMLParagraphElement ? [...only.childNodes, ...nodes.slice(1)] : nodes
  return h('li', null, task && (task[1] === ' ' ? '☐ ' : '☑ '), tight)
}

/** @param {string[]} lines @param {Place} place @returns {Node[]} */
function within(lines, place) {
  if (place.depth >= MOST_DEPTH) return [h('p', { dir: 'auto', class: 'deep' }, plain(lines.join('\n')))]
  place.depth++
  const made = []
  for (let at = 0; at < lines.length;) {
    const [node, next] = block(lines, at, place)
    if (node) made.push(node)
    at = next
  }
  place.depth--
  return made
}

/** @param {string} line @param {string[]} lines @param {number} at */
function isTable(line, lines, at) {
  const next = lines[at + 1]
  return line.includes('|') && next !== undefined && next.length <= 2000 && DELIMITERS.test(next.trimEnd())
    && cells(next).length === cells(line).length
}

/** @type {Reader} */
function table(line, lines, at) {
  if (!isTable(line, lines, at)) return null
  const aligns = cells(lines[at + 1] ?? '').map(each => (/^:.*:$/.test(each) ? 'center' : each.endsWith(':') ? 'end' : null))
  let end = at + 2
  while (end < lines.length && (lines[end] ?? '').includes('|')) end++
  /** @param {'th' | 'td'} tag @param {string} row */
  const row = (tag, row) => h('tr', null, cells(row).slice(0, aligns.length)
    .map((cell, index) => h(tag, { dir: 'auto', 'data-align': aligns[index] }, inline(cell))))
  return [h('div', { class: 'scroll', tabindex: 0, role: 'group' }, h('table', null,
    h('thead', null, row('th', line)), h('tbody', null, lines.slice(at + 2, end).map(each => row('td', each))))), end]
}

/** @param {string} line */
function cells(line) {
  const inner = line.trim().replace(/^\|/, '').replace(/\|$/, '')
  return inner.split(/(?<!\\)\|/, MOST_COLUMNS).map(each => each.trim().replaceAll('\\|', '|'))
}

/** @type {Reader[]} */
const READERS = [fence, heading, rule, quote, items, table]

// inside a block ----------------------------------------------------------------------------------

const TOKEN = /\\[!-/:-@[-`{-~]|`+|\*+|_+|~~|!?\[|<(?=https?:|mailto:)|https?:\/\/|\n/g
const LINK = /\[((?:[^[\]\\]|\\.){0,1000})\]\(\s{0,9}(<[^<>\n]{0,2000}>|(?:[^\s()<>]|\([^\s()<>]{0,500}\)){0,2000})(?:\s{1,9}"[^"\n]{0,500}")?\s{0,9}\)/y
const ADDRESS = /https?:\/\/[^\s<>"`|]{1,2000}/y
const PICTURE = /^data:image\/(?:png|jpeg|gif|webp);base64,[\w+/=]{1,2000000}$/

/**
 * The nodes of a text within a block.
 * @param {string} text
 * @returns {Node[]}
 */
function inline(text) {
  const frames = [{ mark: '', length: 0, nodes: /** @type {Node[]} */ ([]) }]
  const absent = new Set()
  let at = 0
  for (let found; (TOKEN.lastIndex = at), (found = TOKEN.exec(text));) {
    say(frames, text.slice(at, found.index))
    at = found.index + token(frames, text, found, absent)
  }
  say(frames, text.slice(at))
  while (frames.length > 1) fallBack(frames)
  return frames[0]?.nodes ?? []
}

/** @param {Frame[]} frames @param {Node | string} what */
function say(frames, what) {
  if (what !== '') frames.at(-1)?.nodes.push(typeof what === 'string' ? document.createTextNode(plain(what)) : what)
}

/**
 * Show what stands at a token, and tell how much of the text that was.
 * @param {Frame[]} frames @param {string} text @param {RegExpExecArray} found @param {Set<unknown>} absent
 * @returns {number}
 */
function token(frames, text, found, absent) {
  const [mark] = found
  const at = found.index
  if (mark.startsWith('\\')) return say(frames, mark.slice(1)), mark.length
  if (mark === '\n') return say(frames, text.slice(at - 2, at) === '  ' ? h('br') : mark), 1
  if (mark.startsWith('`')) return codeAt(frames, text, at, mark, absent)
  if (mark === '[' || mark === '![') return linkAt(frames, text, at, mark)
  if (mark === '<') return angledAt(frames, text, at)
  if (mark.startsWith('http')) return addressAt(frames, text, at)
  return emphasis(frames, text, at, mark), mark.length
}

/**
 * @param {Frame[]} frames @param {string} text @param {number} at @param {string} mark
 * @param {Set<unknown>} absent the marks that the rest of the text does not have
 */
function codeAt(frames, text, at, mark, absent) {
  let end = absent.has(mark) || mark.length > 4 ? -1 : text.indexOf(mark, at + mark.length)
  while (end >= 0 && text[end + mark.length] === '`') {
    while (text[end] === '`') end++
    end = text.indexOf(mark, end)
  }
  if (end < 0) return absent.add(mark), say(frames, mark), mark.length
  say(frames, h('code', { dir: 'ltr' }, plain(text.slice(at + mark.length, end).replaceAll('\n', ' '), true)))
  return end + mark.length - at
}

/** @param {Frame[]} frames @param {string} text @param {number} at @param {string} mark */
function linkAt(frames, text, at, mark) {
  LINK.lastIndex = at + mark.length - 1
  const found = LINK.exec(text)
  if (!found) return say(frames, mark), mark.length
  const label = (found[1] ?? '').replace(/\\([!-/:-@[-`{-~])/g, '$1')
  const target = (found[2] ?? '').replace(/^<|>$/g, '')
  say(frames, mark === '![' ? picture(label, target) : link(label, target))
  return mark.length - 1 + found[0].length
}

/** @param {Frame[]} frames @param {string} text @param {number} at */
function angledAt(frames, text, at) {
  const end = text.slice(at, at + 2000).search(/[\s>]/)
  if (end < 0 || text[at + end] !== '>') return say(frames, '<'), 1
  const target = text.slice(at + 1, at + end)
  say(frames, link(target.replace(/^mailto:/, ''), target))
  return end + 1
}

/** @param {Frame[]} frames @param {string} text @param {number} at */
function addressAt(frames, text, at) {
  ADDRESS.lastIndex = at
  let target = (ADDRESS.exec(text)?.[0] ?? 'http').replace(/[.,:;!?'*_~\]]+$/, '')
  if (target.endsWith(')') && !target.includes('(')) target = target.slice(0, -1)
  say(frames, link(target, target))
  return target.length
}

/**
 * A link, or the words with the target behind them where the target is not allowed.
 * @param {string} label @param {string} target
 * @returns {Node}
 */
export function link(label, target) {
  const address = allowed(target)
  const words = plain(label || target)
  if (!address) return h('span', null, words, label && target && label !== target ? [' ', path(target)] : null)
  return h('a', { href: address, rel: 'noopener noreferrer', target: '_blank', dir: label === target ? 'ltr' : 'auto' }, words)
}

/** @param {string} target */
function allowed(target) {
  if (!URL.canParse(target)) return null
  const { protocol, href, username, password } = new URL(target)
  if (protocol === 'mailto:') return href
  return /^https?:$/.test(protocol) && !username && !password ? href : null
}

/** @param {string} label @param {string} target */
function picture(label, target) {
  const own = URL.canParse(target) && new URL(target).origin === location.origin
  if (own || PICTURE.test(target)) return h('img', { src: target, alt: label, loading: 'lazy' })
  return link(t('markdown_image', { name: label || target }), target)
}

const TAGS = /** @type {Record<string, string>} */ ({ '*1': 'em', '*2': 'strong', _1: 'em', _2: 'strong', '~2': 's' })

/**
 * A run of marks ends what it can end, then begins what it can begin.
 * @param {Frame[]} frames @param {string} text @param {number} at @param {string} run
 */
function emphasis(frames, text, at, run) {
  const mark = run.charAt(0)
  const before = text.charAt(at - 1)
  const after = text.charAt(at + run.length)
  const inWord = mark === '_' && /[\p{L}\p{N}]/u.test(before) && /[\p{L}\p{N}]/u.test(after)
  let left = run.length
  if (left > 3 || inWord) return say(frames, run)
  if (/\S/.test(before)) left = close(frames, mark, left)
  if (left && /\S/.test(after) && frames.length + 1 < MOST_FRAMES) {
    for (; left > 0; left -= frames.at(-1)?.length ?? left) frames.push({ mark, length: left >= 2 ? 2 : 1, nodes: [] })
  }
  say(frames, mark.repeat(Math.max(0, left)))
}

/** @param {Frame[]} frames @param {string} mark @param {number} left */
function close(frames, mark, left) {
  while (left > 0) {
    const index = frames.findLastIndex(frame => frame.mark === mark && frame.length <= left && frame.nodes.length)
    if (index < 1) break
    while (frames.length - 1 > index) fallBack(frames)
    const frame = /** @type {Frame} */ (frames.pop())
    say(frames, h(TAGS[mark + frame.length] ?? 'em', null, frame.nodes))
    left -= frame.length
  }
  return left
}

/**
 * The innermost frame was never ended: its marks are text.
 * @param {Frame[]} frames
 */
function fallBack(frames) {
  const frame = /** @type {Frame} */ (frames.pop())
  const outer = /** @type {Frame} */ (frames.at(-1))
  outer.nodes = outer.nodes.concat(document.createTextNode(frame.mark.repeat(frame.length)), frame.nodes)
}

/**
 * A short text with emphasis, code and links, without blocks.
 * @param {string} value
 * @returns {Node[]}
 */
export const phrase = value => [...inline(value.slice(0, MOST_PHRASE)), ...nodesOf([restOf(value, MOST_PHRASE)])]
