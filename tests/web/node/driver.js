// Runs functions that a test sends, one a line, and answers with their results.
import { createInterface } from 'node:readline'

const [client, address] = process.argv.slice(2)
globalThis.throughline = await import(`${client}/throughline.js`)
globalThis.TIMES = (await import(`${client}/wire.js`)).TIMES
globalThis.address = address
for await (const line of createInterface({ input: process.stdin })) {
  const { code, args } = JSON.parse(line)
  try {
    const value = await (0, eval)(`(${code})`)(args)
    console.log(JSON.stringify({ value: value ?? null }))
  } catch (error) {
    console.log(JSON.stringify({ error: error?.stack ?? String(error) }))
  }
}
