// Creating, appending, closing and deleting with the official client.
import { DurableStream, IdempotentProducer, stream } from "@durable-streams/client"
import { beforeAll, expect, test } from "vitest"

import { ensureBucket, freshStreamUrl } from "../lib/target.js"

beforeAll(ensureBucket)

const readJson = async (url, offset = "-1") => (await stream({ url, offset, live: false })).json()

test("a created stream can be connected to, and a second create is idempotent", async () => {
  const url = freshStreamUrl("create")
  await DurableStream.create({ url, contentType: "text/plain" })
  await DurableStream.create({ url, contentType: "text/plain" })
  const head = await (await DurableStream.connect({ url })).head()
  expect(head).toMatchObject({ exists: true, contentType: "text/plain", streamClosed: false })
  await expect(DurableStream.create({ url, contentType: "application/json" })).rejects.toMatchObject({
    status: 409,
  })
})

test("JSON values come back as they were appended, in order", async () => {
  const url = freshStreamUrl("json")
  const handle = await DurableStream.create({ url, contentType: "application/json" })
  const values = [{ n: 1, text: "grüß \u{1F600}\n" }, [1, [2, []]], "scalar", 0.1, null, true, {}]
  for (const value of values) await handle.append(JSON.stringify(value))
  expect(await readJson(url)).toEqual(values)
})

test("many concurrent appends of one handle lose and reorder nothing", async () => {
  const url = freshStreamUrl("batch")
  const handle = await DurableStream.create({ url, contentType: "application/json" })
  const values = Array.from({ length: 500 }, (_, n) => ({ n }))
  await Promise.all(values.map((value) => handle.append(JSON.stringify(value))))
  expect(await readJson(url)).toEqual(values)
})

test("an idempotent producer delivers 2,000 messages exactly once and in order, however often it is sent", async () => {
  const url = freshStreamUrl("producer")
  const handle = await DurableStream.create({ url, contentType: "application/json" })
  let requests = 0
  // Every third request is sent twice, as after an answer that was lost on the way.
  const resending = async (input, init) => {
    requests += 1
    if (requests % 3 === 0) await (await fetch(input, init)).arrayBuffer()
    return fetch(input, init)
  }
  const errors = []
  const producer = new IdempotentProducer(handle, "producer-1", {
    fetch: resending,
    lingerMs: 1,
    maxBatchBytes: 512,
    onError: (error) => errors.push(error),
  })
  const values = Array.from({ length: 2000 }, (_, n) => ({ n }))
  for (const value of values) producer.append(JSON.stringify(value))
  await producer.flush()
  await producer.detach()
  expect(errors).toEqual([])
  expect(requests).toBeGreaterThan(30)
  expect(await readJson(url)).toEqual(values)
})

test("a producer of an older epoch is fenced", async () => {
  const url = freshStreamUrl("fence")
  const handle = await DurableStream.create({ url, contentType: "application/json" })
  const errors = []
  const onError = (error) => errors.push(error.name)
  const old = new IdempotentProducer(handle, "p", { epoch: 0, lingerMs: 0, onError })
  old.append('"old"')
  await old.flush()
  const current = new IdempotentProducer(handle, "p", { epoch: 1, lingerMs: 0, onError })
  current.append('"current"')
  await current.flush()
  expect(errors).toEqual([])
  old.append('"late"')
  await old.flush().catch(() => {})
  expect(errors).toEqual(["StaleEpochError"])
  expect(await readJson(url)).toEqual(["old", "current"])
})

test("reading goes on at a saved offset", async () => {
  const url = freshStreamUrl("resume")
  const handle = await DurableStream.create({ url, contentType: "text/plain" })
  await handle.append("one ")
  const first = await stream({ url, live: false })
  expect(await first.text()).toBe("one ")
  await handle.append("two ")
  await handle.append("three")
  const second = await stream({ url, live: false, offset: first.offset })
  expect(await second.text()).toBe("two three")
  const third = await stream({ url, live: false, offset: second.offset })
  expect(await third.text()).toBe("")
  expect(third.offset).toBe(second.offset)
})

test("a stream larger than a page comes back whole", async () => {
  const url = freshStreamUrl("large")
  const handle = await DurableStream.create({ url, contentType: "application/octet-stream" })
  const block = (n) => new Uint8Array(512 * 1024).map((_, i) => (i * 31 + n * 7) & 0xff)
  for (let n = 0; n < 20; n += 1) await handle.append(block(n))
  // With `live: false` the client takes one response, which is one page.
  const body = await (await stream({ url })).body()
  expect(body.length).toBe(20 * 512 * 1024)
  for (let n = 0; n < 20; n += 1) {
    const slice = body.subarray(n * 512 * 1024, (n + 1) * 512 * 1024)
    expect(Buffer.compare(slice, block(n)), `block ${n}`).toBe(0)
  }
})

test("a closed stream says so, keeps its contents and takes no more", async () => {
  const url = freshStreamUrl("close")
  const handle = await DurableStream.create({ url, contentType: "application/json" })
  await handle.append('"first"')
  const { finalOffset } = await handle.close({ body: '"last"' })
  expect((await handle.close()).finalOffset).toBe(finalOffset)
  expect(await handle.head()).toMatchObject({ streamClosed: true, offset: finalOffset })
  await expect(handle.append('"more"')).rejects.toMatchObject({ status: 409 })
  const response = await stream({ url, live: false })
  expect(await response.json()).toEqual(["first", "last"])
  expect(response.streamClosed).toBe(true)
})

test("a deleted stream is gone, and its name starts afresh", async () => {
  const url = freshStreamUrl("delete")
  const handle = await DurableStream.create({ url, contentType: "text/plain", body: "old" })
  await handle.delete()
  expect(await DurableStream.head({ url })).toEqual({ exists: false })
  await DurableStream.create({ url, contentType: "text/plain", body: "new" })
  expect(await (await stream({ url, live: false })).text()).toBe("new")
})
