// A program with a generated client: its types are made from the OpenAPI document of the service.
import createClient from 'openapi-fetch'
import type { components, paths } from './api.ts'

declare const process: { argv: string[] }

const [baseUrl, token] = process.argv.slice(2)
const client = createClient<paths>({
  baseUrl: baseUrl!,
  headers: { Authorization: `Bearer ${token}` },
})

const userId = 'u1'
const projectId = 'p1'

const projects = await client.GET('/v1/projects', { params: { query: { userId } } })
const names: string[] = projects.data!.projects.map((each) => each.name)

const asked = await client.POST('/v1/chat-plan', {
  body: { userId, projectId, message: 'Add a login page' },
})
// The same call answers with a stream where the client asks for one: as text.
if (typeof asked.data !== 'object') throw new Error('an answer in JSON')
const plan = asked.data.data as components['schemas']['FeaturePlanResponse']
const steps: number = plan.plan.steps.length

const page = await client.GET('/v1/project/{projectId}/timeline', {
  params: { path: { projectId }, query: { userId, limit: 10 } },
})
const kinds: string[] = page.data!.items.map((each) => each.kind)

const unknown = await client.GET('/v1/sessions/{sessionId}', {
  params: { path: { sessionId: 'none' }, query: { userId } },
})
const code: string = unknown.error!.code

// @ts-expect-error There is no such call.
void (() => client.GET('/v1/zebras'))
// @ts-expect-error A message needs a text.
void (() => client.POST('/v1/chat-plan', { body: { userId, projectId } }))

console.log(JSON.stringify({ names, subtype: asked.data.subtype, steps, kinds, code }))
