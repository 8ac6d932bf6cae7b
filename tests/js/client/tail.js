// Collects what a tail of the official client delivers, until a condition holds or the stream ends.
import { stream } from "@durable-streams/client"

const subscribe = {
  text: (response, deliver) => response.subscribeText((chunk) => deliver([chunk.text], chunk)),
  json: (response, deliver) => response.subscribeJson((batch) => deliver(batch.items, batch)),
  bytes: (response, deliver) => response.subscribeBytes((chunk) => deliver([chunk.data], chunk)),
}

/** Starts a tail; `parts` grows as data comes, `offset` is the place to resume from. */
export async function openTail(url, kind, live, offset = "-1") {
  const stop = new AbortController()
  const response = await stream({ url, live, offset, signal: stop.signal })
  const tail = { parts: [], offset }
  const waiters = new Set()
  subscribe[kind](response, (parts, meta) => {
    tail.parts.push(...parts)
    tail.offset = meta.offset
    for (const check of waiters) check()
  })
  /** Resolves once `condition(tail)` holds; the timeout of the test is what ends a wait in vain. */
  tail.until = (condition) =>
    new Promise((resolve) => {
      const check = () => {
        if (!condition(tail)) return
        waiters.delete(check)
        resolve()
      }
      waiters.add(check)
      check()
    })
  /** Resolves when the server has ended the stream at `offset` and everything up to there was delivered. */
  tail.end = async (offset) => {
    await response.closed
    if (!response.streamClosed) throw new Error("the tail ended, but not because the stream did")
    // The client reports the end before it hands out the last chunk.
    await tail.until((seen) => seen.offset === offset)
  }
  tail.stop = async () => {
    stop.abort()
    await response.closed.catch(() => {})
  }
  return tail
}
