// Live tails of the official client: every kind of content over long-poll and over SSE.
import { DurableStream, stream } from "@durable-streams/client"
import { beforeAll, describe, expect, test } from "vitest"

import { ensureBucket, freshStreamUrl } from "../lib/target.js"
import { openTail } from "./tail.js"

beforeAll(ensureBucket)

const text = {
  contentType: "text/plain; charset=utf-8",
  kind: "text",
  messages: ["line 1\nline 2\n", "\r\ndata: not an event\r\n\r\n", "grüß \u{1F600}", "\u{1F600}tail\n"],
  // Over SSE every line end arrives as LF; long-poll delivers the bytes.
  join: (parts, live) => (live === "sse" ? parts.join("").replaceAll("\r\n", "\n") : parts.join("")),
}
const json = {
  contentType: "application/json",
  kind: "json",
  messages: [{ n: 1, text: "a\nb\r\n\r\n" }, { n: 2, deep: [[1], [2, [3]]] }, ["two", "levels"], { n: 4 }].map((value) =>
    JSON.stringify([value]),
  ),
  join: (parts) => parts.map((part) => (typeof part === "string" ? JSON.parse(part)[0] : part)),
}
const binary = {
  contentType: "application/x-blob",
  kind: "bytes",
  // All byte values, and lengths that leave every remainder of base64.
  messages: [256, 1, 2, 1000].map((size, n) => Uint8Array.from({ length: size }, (_, i) => (i * 7 + n) & 0xff)),
  join: (parts) => Buffer.concat(parts).toString("hex"),
}

async function post(url, contentType, body, headers = {}) {
  const response = await fetch(url, { method: "POST", headers: { "content-type": contentType, ...headers }, body })
  expect([200, 204]).toContain(response.status)
  return response.headers.get("stream-next-offset")
}

describe.each(["long-poll", "sse"])("%s", (live) => {
  test.each([text, json, binary])("delivers $kind before and during the tail, resumes, and ends", async (sample) => {
    const { contentType, kind, messages } = sample
    const join = (parts) => sample.join(parts, live)
    const url = freshStreamUrl(`tail-${kind}`)
    const handle = await DurableStream.create({ url, contentType })

    const offsets = [await post(url, contentType, messages[0])]
    const tail = await openTail(url, kind, live)
    await tail.until((seen) => seen.offset === offsets[0])
    offsets.push(await post(url, contentType, messages[1]))
    await tail.until((seen) => seen.offset === offsets[1])
    expect(join(tail.parts)).toEqual(join(messages.slice(0, 2)))
    await tail.stop()

    offsets.push(await post(url, contentType, messages[2]))
    const resumed = await openTail(url, kind, live, tail.offset)
    await resumed.until((seen) => seen.offset === offsets[2])
    const last = await post(url, contentType, messages[3], { "stream-closed": "true" })
    await resumed.end(last)
    expect(join(resumed.parts)).toEqual(join(messages.slice(2)))
    expect((await handle.head()).offset).toBe(last)
  })

  test("a close without data ends every waiting tail", async () => {
    const url = freshStreamUrl("eof")
    const handle = await DurableStream.create({ url, contentType: "text/plain", body: "all there is" })
    const tails = await Promise.all(Array.from({ length: 5 }, () => openTail(url, "text", live)))
    await Promise.all(tails.map((tail) => tail.until((seen) => seen.parts.join("") === "all there is")))
    const { finalOffset } = await handle.close()
    await Promise.all(tails.map((tail) => tail.end(finalOffset)))
    for (const tail of tails) expect(tail.parts.join("")).toBe("all there is")
  })

  test("a tail of a closed stream delivers everything and ends at once", async () => {
    const url = freshStreamUrl("closed")
    const handle = await DurableStream.create({ url, contentType: "application/json" })
    await handle.append('{"n":1}')
    const { finalOffset } = await handle.close({ body: '{"n":2}' })
    const tail = await openTail(url, "json", live)
    await tail.end(finalOffset)
    expect(tail.parts).toEqual([{ n: 1 }, { n: 2 }])
  })

  test("many tails of one stream see the same 300 messages, in order", async () => {
    const url = freshStreamUrl("fan-out")
    const handle = await DurableStream.create({ url, contentType: "application/json" })
    const tails = await Promise.all(Array.from({ length: 10 }, () => openTail(url, "json", live)))
    const values = Array.from({ length: 300 }, (_, n) => ({ n }))
    for (const value of values) await handle.append(JSON.stringify(value))
    const { finalOffset } = await handle.close()
    await Promise.all(tails.map((tail) => tail.end(finalOffset)))
    for (const tail of tails) expect(tail.parts).toEqual(values)
  })
})

test("`now` skips what is there", async () => {
  const url = freshStreamUrl("now")
  const handle = await DurableStream.create({ url, contentType: "application/json", body: '["old"]' })
  const tail = await openTail(url, "json", "sse", "now")
  await handle.append('"new"')
  await tail.until((seen) => seen.parts.length > 0)
  expect(tail.parts).toEqual(["new"])
  await tail.stop()
})

test("the default mode of the client catches up and then follows", async () => {
  const url = freshStreamUrl("auto")
  const handle = await DurableStream.create({ url, contentType: "application/json", body: '["before"]' })
  const response = await stream({ url })
  const seen = []
  const both = new Promise((resolve) => {
    response.subscribeJson((batch) => {
      seen.push(...batch.items)
      if (seen.length === 2) resolve()
    })
  })
  await handle.append('"after"')
  await both
  expect(seen).toEqual(["before", "after"])
  response.cancel()
})
