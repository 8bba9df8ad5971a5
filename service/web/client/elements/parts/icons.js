/** Icons: lines in a square of 16, in the colour of the text around them. */

import { svg } from './dom.js'

/** @type {Record<string, string>} */
const LINES = {
  again: 'M13 8a5 5 0 1 1-1.6-3.7M13 2v3h-3',
  alert: 'M8 2 14.5 13.5h-13ZM8 6.5v3M8 11.6v.1',
  analysis: 'M2.5 13.5v-11M2.5 13.5h11M5.5 11V8M8.5 11V5M11.5 11V7',
  archive: 'M2 3h12v3H2ZM3 6v7.5h10V6M6.5 9h3',
  arrow: 'M3 8h10M9 4l4 4-4 4',
  back: 'M10 3.5 5.5 8l4.5 4.5',
  build: 'M9.5 3.5a3 3 0 0 1 4-1l-2 2 .5 1.5 1.5.5 1-2a3 3 0 0 1-4 4l-5 5a1.4 1.4 0 0 1-2-2l5-5a3 3 0 0 1 1-3',
  check: 'M3 8.5 6.5 12 13 4.5',
  chevron: 'M6 3.5 10.5 8 6 12.5',
  clock: 'M8 2a6 6 0 1 1 0 12A6 6 0 0 1 8 2ZM8 4.5V8l2.5 1.5',
  close: 'M4 4l8 8M12 4l-8 8',
  code: 'M5.5 4.5 2 8l3.5 3.5M10.5 4.5 14 8l-3.5 3.5',
  contrast: 'M8 2a6 6 0 1 1 0 12A6 6 0 0 1 8 2ZM8 2v12M10 4v8M12 6v4',
  copy: 'M6 6h7.5v7.5H6ZM10 6V2.5H2.5V10H6',
  cross: 'M8 2a6 6 0 1 1 0 12A6 6 0 0 1 8 2ZM6 6l4 4M10 6l-4 4',
  done: 'M8 2a6 6 0 1 1 0 12A6 6 0 0 1 8 2ZM5 8.3l2.2 2.2L11 6',
  down: 'M3.5 6 8 10.5 12.5 6',
  download: 'M8 2v8M4.5 7 8 10.5 11.5 7M2.5 13.5h11',
  edit: 'M3 13l.6-2.8L11 2.8l2.2 2.2-7.4 7.4ZM9.5 4.3l2.2 2.2',
  error: 'M8 2a6 6 0 1 1 0 12A6 6 0 0 1 8 2ZM8 5v3.6M8 11v.1',
  file: 'M3.5 1.5h6l3 3v10h-9ZM9.5 1.5v3h3',
  filter: 'M2 3h12L9.5 8.5V13l-3-1.5v-3Z',
  first: 'M12 3.5 7.5 8l4.5 4.5M4.5 3.5v9',
  fork: 'M4 2.5v11M4 9c0-3 8-1 8-5M12 2.5v1.5M2.5 13.5h3',
  globe: 'M8 2a6 6 0 1 1 0 12A6 6 0 0 1 8 2ZM2 8h12M8 2c-4 4-4 8 0 12M8 2c4 4 4 8 0 12',
  help: 'M8 2a6 6 0 1 1 0 12A6 6 0 0 1 8 2ZM6.2 6.2a1.8 1.8 0 1 1 2.5 1.9c-.5.3-.7.6-.7 1.2M8 11.4v.1',
  idea: 'M5.5 10.5a4 4 0 1 1 5 0V12h-5ZM6.5 14h3',
  info: 'M8 2a6 6 0 1 1 0 12A6 6 0 0 1 8 2ZM8 7.5V11M8 5v.1',
  link: 'M6.5 9.5 9.5 6.5M7 4.5l1.5-1.5a3 3 0 0 1 4.5 4.5L11.5 9M9 11.5 7.5 13A3 3 0 0 1 3 8.5L4.5 7',
  live: 'M8 6.5a1.5 1.5 0 1 1 0 3 1.5 1.5 0 0 1 0-3ZM4.5 4.5a5 5 0 0 0 0 7M11.5 4.5a5 5 0 0 1 0 7',
  lock: 'M3.5 7h9v6.5h-9ZM5.5 7V5a2.5 2.5 0 0 1 5 0v2',
  log: 'M2.5 3.5h11M2.5 8h11M2.5 12.5h7',
  menu: 'M2 4h12M2 8h12M2 12h12',
  moon: 'M13 9.5A5.5 5.5 0 0 1 6.5 3 5.5 5.5 0 1 0 13 9.5Z',
  more: 'M3 8h.1M8 8h.1M13 8h.1',
  open: 'M9 2.5h4.5V7M13.5 2.5 7 9M11 9.5v4H2.5V5h4',
  package: 'M8 1.5 13.5 4.5v7L8 14.5l-5.5-3v-7ZM2.5 4.5 8 7.5l5.5-3M8 7.5v7',
  plan: 'M2.5 3.5 3.5 4.5 5 2.5M2.5 8l1 1L5 7M2.5 12.5l1 1 1.5-2M7.5 3.5h6M7.5 8h6M7.5 12.5h6',
  plus: 'M8 3v10M3 8h10',
  prompt: 'M3 4.5 6.5 8 3 11.5M8 12h5.5',
  queue: 'M8 2a6 6 0 1 1 0 12A6 6 0 0 1 8 2ZM5 8h.1M8 8h.1M11 8h.1',
  run: 'M4.5 2.5v11L13 8Z',
  run_feedback: 'M2 2.5h12v8H7L4 13.5v-3H2ZM6.5 4.8v3.4L9.5 6.5Z',
  save: 'M4 2.5h8v11l-4-3-4 3Z',
  search: 'M7 2.5a4.5 4.5 0 1 1 0 9 4.5 4.5 0 0 1 0-9ZM10.5 10.5 14 14',
  send: 'M2.5 8h10M8.5 4l4 4-4 4',
  setup: 'M2 5h5M10 5h4M2 11h2M7 11h7M8.5 3.5a1.5 1.5 0 1 1 0 3 1.5 1.5 0 0 1 0-3ZM5.5 9.5a1.5 1.5 0 1 1 0 3 1.5 1.5 0 0 1 0-3Z',
  share: 'M8 10V2M5 4.5 8 1.8l3 2.7M4 7.5H2.5v6h11v-6H12',
  star: 'M8 2l1.8 3.8 4.2.6-3 2.9.7 4.2L8 11.5l-3.7 2 .7-4.2-3-2.9 4.2-.6Z',
  stop: 'M4 4h8v8H4Z',
  sun: 'M8 5a3 3 0 1 1 0 6 3 3 0 0 1 0-6ZM8 1v1.5M8 13.5V15M1 8h1.5M13.5 8H15M3 3l1 1M12 12l1 1M13 3l-1 1M4 12l-1 1',
  table: 'M2 3h12v10H2ZM2 6.5h12M6.5 6.5V13',
  tag: 'M2.5 2.5h5l6 6-5 5-6-6ZM5.5 5.5v.1',
  timeline: 'M4 2v12M4 4.5h.1M7 4.5h6.5M4 8h.1M7 8h4.5M4 11.5h.1M7 11.5h6.5',
  trash: 'M2.5 4h11M6 4V2.5h4V4M4 4l.7 9.5h6.6L12 4',
  usage: 'M2 10a6 6 0 0 1 12 0M8 10l3-3.5M2 10v2M14 10v2',
  user: 'M8 2.5a2.7 2.7 0 1 1 0 5.4 2.7 2.7 0 0 1 0-5.4ZM2.5 14c.5-5 10.5-5 11 0',
  what_if: 'M3 13.5c0-5 2-5.5 5-5.5M3 13.5V9M8 8c3 0 5-.5 5-5.5M10.5 5 13 2.5 15 5',
}

const FLIPPED = new Set(['arrow', 'back', 'chevron', 'first', 'open', 'send'])

/**
 * An icon. Without a label it is decoration beside a word. Icons with a direction turn round in a
 * text from right to left; the style of the page does that for `data-flip`.
 * @param {string} name
 * @param {string} [label]
 */
export function icon(name, label) {
  return svg(
    'svg',
    {
      viewBox: '0 0 16 16', width: 16, height: 16, class: 'icon', fill: 'none', focusable: 'false',
      stroke: 'currentColor', 'stroke-width': 1.5, 'stroke-linecap': 'round', 'stroke-linejoin': 'round',
      'data-icon': name, 'data-flip': FLIPPED.has(name), ...(label ? { role: 'img', 'aria-label': label } : { 'aria-hidden': 'true' }),
    },
    svg('path', { d: LINES[name] ?? LINES.info }),
  )
}

/** The names of all icons. */
export const ICONS = Object.keys(LINES)
