// The server under test, from the environment. Knows nothing of how it was started.
import { randomUUID } from "node:crypto"

export const baseUrl = process.env.TARGET_URL.replace(/\/+$/, "")
export const streamRoot = (process.env.STREAM_ROOT || "/v1/stream").replace(/\/+$/, "")
export const longPollTimeoutMs = Number(process.env.LONG_POLL_TIMEOUT_MS || 2000)
export const subscriptions = process.env.SUBSCRIPTIONS === "1"

/** The URL of a stream that no other run uses. */
export const freshStreamUrl = (name) => `${baseUrl}${streamRoot}/${name}-${randomUUID()}`

/** Creates the bucket behind STREAM_ROOT; the default root needs none. */
export async function ensureBucket() {
  if (streamRoot === "/v1/stream") return
  const response = await fetch(baseUrl + streamRoot, { method: "PUT" })
  // 409 is how some servers say that it is there already.
  if (!response.ok && response.status !== 409) {
    throw new Error(`PUT ${streamRoot} answered ${response.status}: ${await response.text()}`)
  }
}
