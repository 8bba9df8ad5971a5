/** The texts of what the service itself says: templates with variables, in the page's language. */

import { locale } from '../texts.js'

/** @typedef {import('../throughline.js').Throughline} Throughline */

/** @type {Map<string, Record<string, string>>} */
const known = new Map()

/** Of several elements that need the same texts, one asks. @type {Map<string, Promise<void>>} */
const loading = new Map()

/**
 * Have the texts of the page's language.
 * @param {Throughline} client
 * @returns {Promise<boolean>} whether they were not there before
 */
export async function loadTemplates(client) {
  const name = locale()
  if (known.has(name)) return false
  let asked = loading.get(name)
  if (!asked) {
    asked = client.get(`/v1/messages/${encodeURIComponent(name)}`).then(({ templates }) => void known.set(name, templates))
    loading.set(name, asked)
  }
  try {
    await asked
  } finally {
    loading.delete(name)
  }
  return true
}

/**
 * What a template says. Names and paths in it are isolated, so that they keep their direction.
 * @param {string} template
 * @param {Record<string, unknown> | null} [variables]
 */
export function said(template, variables) {
  const templates = known.get(locale()) ?? {}
  const text = Object.hasOwn(templates, template) ? templates[template] ?? '' : ''
  return text.replace(/\{(\w+)\}/g, (all, name) => {
    const value = variables && Object.hasOwn(variables, name) ? variables[name] : undefined
    return value === undefined || value === null ? all : `\u2068${value}\u2069`
  })
}
