/** Charts: SVG without text in it, numbers at hover and focus, and a table behind a switch. */

import { h, sheet, svg } from './dom.js'
import { icon } from './icons.js'
import { plain, text } from './small.js'
import { number, t } from '../../texts.js'

/** @typedef {import('./element.js').ThroughlineElement} Host */
/** @typedef {{ title: string, labels: readonly string[], values: readonly number[], form?: 'bars' | 'columns' | 'line' | 'table', show?: (value: number) => string }} Chart */

const MOST_POINTS = 120
/** The share of a chart that a column takes at most: one day alone is no wall. */
const WIDEST = 0.1

export const chartSheet = sheet(`
.chart { display: grid; gap: 8px; grid-template-columns: minmax(0, 1fr); } .chart figcaption { display: flex; justify-content: space-between; align-items: center; gap: 8px; } .chart figcaption button { white-space: nowrap; }
.chart svg:not(.icon) { display: block; inline-size: 100%; overflow: visible; } .chart svg.flip:dir(rtl) { transform: scaleX(-1); }
.bars { display: grid; grid-template-columns: minmax(64px, max-content) 1fr max-content; gap: 4px 12px; font-size: 14px; } .bars li { display: grid; grid-template-columns: subgrid; grid-column: 1 / -1; align-items: center; }
.bars li > :first-child { max-inline-size: 30cqi; } .bars li > button { grid-column: 1 / -1; justify-self: start; }
.mark { fill: var(--accent); } .point:hover, .point:focus-visible { filter: brightness(1.25); } line.mark { stroke: var(--accent); stroke-width: 2; } .axis { stroke: var(--line); }
.chart output { font-size: 13px; text-align: center; min-inline-size: 0; }
`)

/**
 * A chart. The choice between picture and table is kept in the host under `name`.
 * @param {Host} host @param {string} name @param {Chart} chart
 */
export function chart(host, name, { title, labels, values, form = 'bars', show = shown }) {
  const points = values.map((value, index) => ({ label: plain(text(labels[index])).slice(0, 200), value: Number.isFinite(value) ? value : 0 }))
  const isTable = form === 'table' || host.kept.get(name) === true
  const change = () => host.keep(name, !isTable)
  return h('figure', { class: 'chart', key: name },
    h('figcaption', null, h('h3', { class: 'part', dir: 'auto' }, plain(title)),
      form !== 'table' && h('button', { type: 'button', class: 'quiet small', 'aria-pressed': String(isTable), onclick: change },
        icon(isTable ? 'analysis' : 'table'), h('span', null, t(isTable ? 'chart_show_chart' : 'chart_show_table')))),
    isTable ? table(host, name, points, show) : form === 'bars' ? bars(host, name, points, show)
      : picture(title, points.slice(0, MOST_POINTS), form, show))
}

/** @typedef {{ label: string, value: number }} Point */
/** @param {number} value */
const shown = value => number(value, { maximumFractionDigits: 2 })
/** @param {number} share */
const percent = share => `${Math.round(share * 1e4) / 100}%`

/** @param {readonly Point[]} points */
function scale(points) {
  const least = Math.min(0, ...points.slice(0, 5000).map(each => each.value))
  const most = Math.max(0, ...points.slice(0, 5000).map(each => each.value))
  const span = most - least || 1
  return (/** @type {number} */ value) => Math.min(1, Math.max(0, (value - least) / span))
}

/** @param {Host} host @param {string} name @param {Point[]} points @param {(value: number) => string} show */
function bars(host, name, points, show) {
  const at = scale(points)
  return h('ul', { class: 'plain bars' }, host.some(`${name} rows`, points, ({ label, value }) => h('li', null,
    h('span', { dir: 'auto' }, label),
    svg('svg', { height: 12, class: 'flip', 'aria-hidden': 'true' }, svg('rect', {
      class: 'mark', height: 12, rx: 2, x: percent(Math.min(at(0), at(value))), width: percent(Math.abs(at(value) - at(0))),
    })),
    h('span', { class: 'number' }, show(value))), 20, each => h('li', { key: 'more' }, each)))
}

/** @param {Host} host @param {string} name @param {Point[]} points @param {(value: number) => string} show */
function table(host, name, points, show) {
  return h('div', { class: 'scroll', tabindex: 0 }, h('table', null,
    h('thead', null, h('tr', null, h('th', null, t('chart_name')), h('th', { 'data-align': 'end' }, t('chart_value')))),
    h('tbody', null, host.some(`${name} rows`, points, ({ label, value }) => h('tr', null,
      h('td', { dir: 'auto' }, label), h('td', { class: 'number', 'data-align': 'end' }, show(value))), 50,
      each => h('tr', { key: 'more' }, h('td', { colspan: 2 }, each))))))
}

/**
 * Columns or a line. One point is in the order of the tab key; the arrow keys lead to the others.
 * @param {string} title @param {Point[]} points @param {string} form @param {(value: number) => string} show
 */
function picture(title, points, form, show) {
  const at = scale(points)
  const step = 1 / Math.max(1, points.length)
  const width = Math.min(WIDEST, 0.7 * step)
  const middle = (/** @type {number} */ index) => percent((index + 0.5) * step)
  const last = points.at(-1)
  const said = last ? `${last.label}: ${show(last.value)}` : ''
  const tell = (/** @type {Event} */ event) => {
    const label = /** @type {Element} */ (event.target).getAttribute('aria-label')
    const output = /** @type {Element} */ (event.currentTarget).parentElement?.querySelector('output')
    if (output && label && event.target !== event.currentTarget) output.textContent = label
  }
  const marks = points.map(({ label, value }, index) => {
    const attributes = { class: 'mark point', role: 'img', 'aria-label': `${label}: ${show(value)}`, tabindex: index ? -1 : 0 }
    const top = percent(1 - Math.max(at(value), at(0)))
    return form === 'line' ? svg('circle', { ...attributes, cx: middle(index), cy: percent(1 - at(value)), r: 4 })
      : svg('rect', { ...attributes, x: percent((index + 0.5) * step - width / 2), width: percent(width), y: top, height: percent(Math.max(0.01, Math.abs(at(value) - at(0)))), rx: 2 })
  })
  const lines = form === 'line' && points.slice(1).map(({ value }, index) => svg('line', {
    class: 'mark', x1: middle(index), x2: middle(index + 1), y1: percent(1 - at(points[index]?.value ?? 0)), y2: percent(1 - at(value)),
  }))
  return h('div', null,
    svg('svg', { height: 112, class: 'flip', role: 'group', 'aria-label': plain(title), onpointerover: tell, onfocusin: tell, onkeydown: walk },
      svg('line', { class: 'axis', x1: 0, x2: '100%', y1: percent(1 - at(0)), y2: percent(1 - at(0)) }), lines, marks),
    h('div', { class: 'row between small muted' }, h('span', { dir: 'auto' }, points[1] && points[0]?.label), h('output', { dir: 'auto' }, said), h('span', { dir: 'auto' }, points[1] && last?.label)))
}

/** @param {KeyboardEvent} event */
function walk(event) {
  const chart = /** @type {Element} */ (event.currentTarget)
  const points = /** @type {SVGElement[]} */ ([...chart.querySelectorAll('.point')])
  const forward = chart.matches(':dir(rtl)') ? 'ArrowLeft' : 'ArrowRight'
  if (!/^Arrow(Left|Right)$/.test(event.key)) return
  const from = points.indexOf(/** @type {SVGElement} */ (event.target))
  const next = points[from + (event.key === forward ? 1 : -1)]
  if (!next) return
  points[from]?.setAttribute('tabindex', '-1')
  next.setAttribute('tabindex', '0')
  next.focus()
  event.preventDefault()
}
