// Reads pairs of a source and a script from standard input, and writes the first token of each pair that
// differs, or null. A token has its kind, its text and its line.
import ts from '../node_modules/typescript/lib/typescript.js'

/** @param {string} text */
function tokens(text) {
  const file = ts.createSourceFile('file.js', text, ts.ScriptTarget.Latest, false, ts.ScriptKind.JS)
  const found = []
  const walk = node => {
    const parts = node.getChildren(file).filter(each => !ts.isJSDoc(each))
    if (parts.length) return parts.forEach(walk)
    const start = node.getStart(file)
    if (node.end > start) found.push(`${file.getLineAndCharacterOfPosition(start).line + 1} ${ts.SyntaxKind[node.kind]} ${node.getText(file)}`)
  }
  walk(file)
  return found
}

let input = ''
for await (const chunk of process.stdin) input += chunk
const differences = JSON.parse(input).map(pair => {
  const [source, script] = pair.map(tokens)
  const at = source.findIndex((each, index) => each !== script[index])
  if (at >= 0) return [source[at], script[at] ?? null]
  return source.length === script.length && source.length > 0 ? null : [null, script[source.length] ?? null]
})
process.stdout.write(JSON.stringify(differences))
