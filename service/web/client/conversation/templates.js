/** The texts of what the service itself says: templates with variables, in the page's language. */

import { locale } from '../texts.js'

/** @typedef {import('../throughline.js').Throughline} Throughline */

/** @type {Map<string, Record<string, string>>} */
const known = new Map()

/**
 * Have the texts of the page's language.
 * @param {Throughline} client
 */
export async function loadTemplates(client) {
  const name = locale()
  if (known.has(name)) return
  const { templates } = await client.get(`/v1/messages/${encodeURIComponent(name)}`)
  known.set(name, templates)
}

/**
 * What a template says. Names and paths in it are isolated, so that they keep their direction.
 * @param {string} template
 * @param {Record<string, unknown> | null} [variables]
 */
export function said(template, variables) {
  const text = known.get(locale())?.[template] ?? ''
  return text.replace(/\{(\w+)\}/g, (all, name) => {
    const value = variables && Object.hasOwn(variables, name) ? variables[name] : undefined
    return value === undefined || value === null ? all : `\u2068${value}\u2069`
  })
}
