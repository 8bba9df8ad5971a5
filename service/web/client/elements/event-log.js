/** `<throughline-event-log>`: events, newest first, by type, with their JSON and the same on the command line. */

import { h, sheet } from './parts/dom.js'
import { ThroughlineElement, define } from './parts/element.js'
import { icon } from './parts/icons.js'
import { codeBlock, copying, list, path, plain, text, time } from './parts/small.js'
import { t } from '../texts.js'

export class EventLog extends ThroughlineElement {
  static sheets = [sheet(`
.events { border: 1px solid var(--line); border-radius: var(--radius); } .events > li + li { border-block-start: 1px solid var(--line); } .events > li > button { margin: 4px; }
summary { display: grid; grid-template-columns: 16px 64px minmax(0, 3fr) minmax(0, 2fr) minmax(0, 116px); gap: 8px; padding: 5px 12px; align-items: baseline; font-size: 14px; list-style: none; } summary::-webkit-details-marker { display: none; } summary:hover { background: var(--raised); }
summary > * { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; } summary > time { text-align: end; } details > .stack { padding: 4px 12px 12px; } select { padding: 4px 8px; border: 1px solid var(--line); border-radius: var(--radius); background: var(--surface); max-inline-size: 100%; }
.command { display: flex; gap: 8px; align-items: center; justify-content: space-between; } @container (max-width: 520px) { summary { grid-template-columns: 16px 56px minmax(0, 1fr) max-content; } .whose { display: none; } }
`)]

  render() {
    const events = list(this.values.events).map(Object)
    if (!events.length) return h('p', { class: 'empty' }, t('log_empty'))
    const types = [...new Set(events.map(typeOf))].sort().slice(0, 200)
    const kept = this.kept.get('type') ?? ''
    const type = types.includes(kept) ? kept : ''
    const shown = type ? events.filter(each => typeOf(each) === type) : events
    return h('section', { role: 'group', 'aria-label': t('log') },
      h('div', { class: 'row between' },
        h('label', { class: 'row small' }, t('log_type'), h('select', { onchange: (/** @type {any} */ event) => this.keep('type', event.target.value) },
          h('option', { value: '', selected: !type }, t('log_all_types')), types.map(each => h('option', { value: each, selected: each === type }, plain(each))))),
        h('span', { class: 'small muted', role: 'status' }, t('log_count', { count: shown.length }))),
      h('ol', { class: 'plain events' }, this.some(`events ${type}`, shown.toReversed(), each => this.#event(each), 100, more => h('li', { key: 'more' }, more))),
      h('div', { class: 'note small', key: 'command' }, h('div', { class: 'muted' }, t('log_command')), h('div', { class: 'command', dir: 'ltr' }, h('code', null, command(shown, type)), copying(command(shown, type)))))
  }

  /** @param {any} event */
  #event(event) {
    const key = `event ${positionOf(event)}`
    return h('li', { key }, h('details', { ontoggle: (/** @type {any} */ { target }) => target.open !== this.kept.has(key) && (target.open ? this.keep(key, true) : this.kept.delete(key)) },
      h('summary', null, icon('chevron'), h('bdi', { class: 'number muted', dir: 'ltr' }, positionOf(event)), path(typeOf(event)), h('bdi', { class: 'muted whose', dir: 'ltr' }, plain(text(event.actor ?? event.userId ?? event.subject), true)), time(event.time ?? event.timestamp)),
      this.kept.has(key) && h('div', { class: 'stack' }, codeBlock(JSON.stringify(event, null, 2), 'JSON'))))
  }
}

/** The type of an event, or the kind of a timeline's item. @param {any} event */
const typeOf = event => text(event.type && !event.kind ? event.type : event.kind ?? event.type).slice(0, 200)

/** @param {any} event */
const positionOf = event => plain(text(event.position ?? text(event.cursor).split('.')[0]).slice(0, 40), true)

/**
 * The command line that prints the events that are shown, and perhaps others between them.
 * @param {any[]} events @param {string} type
 */
function command(events, type) {
  const positions = events.map(each => Number(positionOf(each))).filter(Number.isSafeInteger)
  const least = positions.reduce((found, each) => Math.min(found, each), Infinity)
  const most = positions.reduce((found, each) => Math.max(found, each), 1)
  const line = `throughline events replay --from ${Math.max(1, Math.min(least, most))} --to ${most}`
  return /^[A-Z]\w{0,99}$/.test(type) ? `${line} --type ${type}` : line
}

define('throughline-event-log', EventLog, ['events'])
