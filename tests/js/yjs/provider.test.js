// Yjs documents that meet through the server: provider -> the package's Yjs layer -> the streams of the server.
import { randomUUID } from "node:crypto"

import { YjsProvider } from "@durable-streams/y-durable-streams"
import { YjsServer } from "@durable-streams/y-durable-streams/server"
import { afterEach, beforeEach, describe, expect, test } from "vitest"
import { Awareness } from "y-protocols/awareness"
import * as Y from "yjs"

import { baseUrl } from "../lib/target.js"

let layer
let peers
let docId

beforeEach(async () => {
  // Its streams lie under /v1/stream/yjs/..., whatever STREAM_ROOT says. Small enough to compact within a test.
  layer = new YjsServer({ dsServerUrl: baseUrl, compactionThreshold: 4096 })
  await layer.start()
  peers = []
  docId = `notes/${randomUUID()}`
})

afterEach(async () => {
  for (const { provider, awareness, doc } of peers) {
    provider.destroy()
    awareness.destroy()
    doc.destroy()
  }
  await layer.stop()
})

async function join(liveMode = "sse") {
  const doc = new Y.Doc()
  const awareness = new Awareness(doc)
  const provider = new YjsProvider({ doc, awareness, docId, liveMode, baseUrl: `${layer.url}/v1/yjs/tests` })
  const peer = { doc, awareness, provider, errors: [] }
  peers.push(peer)
  provider.on("error", (error) => peer.errors.push(error))
  await eventually(() => provider.synced)
  return peer
}

/** Waits for a condition; the timeout of the test ends a wait in vain. */
async function eventually(condition) {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 20))
}

const state = (peer) => Buffer.from(Y.encodeStateAsUpdate(peer.doc)).toString("hex")
const converged = (...all) => eventually(() => all.every((peer) => state(peer) === state(all[0])))

describe.each(["sse", "long-poll"])("%s", (liveMode) => {
  test("an edit reaches the other document, and one that joins later", async () => {
    const [a, b] = [await join(liveMode), await join(liveMode)]
    a.doc.getText("body").insert(0, "hello")
    await eventually(() => b.doc.getText("body").toString() === "hello")
    b.doc.getMap("meta").set("title", "greeting")
    await eventually(() => a.doc.getMap("meta").get("title") === "greeting")
    const late = await join(liveMode)
    await converged(a, b, late)
    expect(late.doc.getText("body").toString()).toBe("hello")
    expect(peers.flatMap((peer) => peer.errors)).toEqual([])
  })

  test("concurrent edits of three documents converge, and none is lost", async () => {
    const all = [await join(liveMode), await join(liveMode), await join(liveMode)]
    for (let round = 0; round < 20; round += 1) {
      all.forEach((peer, n) => {
        peer.doc.getText("body").insert(0, `<${n}.${round}>`)
        peer.doc.getArray("log").push([`${n}.${round}`])
      })
      if (round % 5 === 0) await new Promise((resolve) => setTimeout(resolve, 5))
    }
    await eventually(() => all.every((peer) => peer.doc.getArray("log").length === 60))
    await converged(...all)
    const wanted = all.flatMap((_, n) => Array.from({ length: 20 }, (_, round) => `${n}.${round}`)).sort()
    for (const peer of all) {
      expect(peer.doc.getArray("log").toArray().toSorted()).toEqual(wanted)
      expect(peer.doc.getText("body").toString().match(/<\d+\.\d+>/g)).toHaveLength(60)
      expect(peer.errors).toEqual([])
    }
  })
})

test("edits that were missed while disconnected arrive after the connection is back", async () => {
  const [a, b] = [await join(), await join()]
  await b.provider.disconnect()
  for (let n = 0; n < 10; n += 1) a.doc.getArray("log").push([n])
  await a.provider.flush()
  expect(b.doc.getArray("log").length).toBe(0)
  await b.provider.connect()
  await converged(a, b)
  expect(b.doc.getArray("log").toArray()).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
})

test("a document that was compacted opens from its snapshot, and goes on", async () => {
  const a = await join()
  const log = a.doc.getArray("log")
  for (let n = 0; n < 20; n += 1) {
    log.push([`${n}:${"x".repeat(500)}`])
    await a.provider.flush()
  }
  // Compaction runs beside the edits; the document's address leads to a snapshot once there is one.
  const url = `${layer.url}/v1/yjs/tests/docs/${docId}?offset=snapshot`
  const opened = async () => (await fetch(url, { redirect: "manual" })).headers.get("location")
  while (!(await opened())?.includes("_snapshot")) await new Promise((resolve) => setTimeout(resolve, 50))

  const late = await join()
  await converged(a, late)
  log.push(["after"])
  await eventually(() => late.doc.getArray("log").length === 21)
  late.doc.getArray("log").push(["reply"])
  await eventually(() => log.length === 22)
  const later = await join()
  await converged(a, late, later)
  expect(later.doc.getArray("log").toArray().slice(20)).toEqual(["after", "reply"])
  expect(peers.flatMap((peer) => peer.errors)).toEqual([])
})

test("awareness shows who is there", async () => {
  const [a, b] = [await join(), await join()]
  a.awareness.setLocalStateField("user", { name: "Ada" })
  b.awareness.setLocalStateField("user", { name: "Ben" })
  const sees = (peer, other) => peer.awareness.getStates().get(other.doc.clientID)?.user?.name
  await eventually(() => sees(a, b) === "Ben" && sees(b, a) === "Ada")
  await a.provider.disconnect()
  await eventually(() => !b.awareness.getStates().has(a.doc.clientID))
})
