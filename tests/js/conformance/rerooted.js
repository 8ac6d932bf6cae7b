// A copy of the official suite with another stream root; the suite itself hard-codes `/v1/stream`.
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { fileURLToPath, pathToFileURL } from "node:url"

/** `runConformanceTests` of a copy in which every `/v1/stream` is `root`. */
export async function suiteForRoot(root) {
  if (!/^(\/[a-z0-9_-]+)+$/.test(root)) throw new Error(`STREAM_ROOT ${root} is not a path like /bkt1`)
  const dist = dirname(fileURLToPath(import.meta.resolve("@durable-streams/server-conformance-tests")))
  const copy = join(import.meta.dirname, "../node_modules/.cache/conformance", root.replaceAll("/", "_"))
  rmSync(copy, { recursive: true, force: true })
  mkdirSync(copy, { recursive: true })
  cpSync(dist, join(copy, "dist"), { recursive: true })
  cpSync(join(dist, "../package.json"), join(copy, "package.json"))
  // The copy must see the same versions of its dependencies as the original.
  const nested = join(dist, "../node_modules")
  if (existsSync(nested)) symlinkSync(nested, join(copy, "node_modules"))

  let replaced = 0
  for (const name of readdirSync(join(copy, "dist")).filter((name) => name.endsWith(".js"))) {
    const pieces = readFileSync(join(copy, "dist", name), "utf8").split("/v1/stream")
    replaced += pieces.length - 1
    writeFileSync(join(copy, "dist", name), pieces.join(root))
  }
  if (replaced === 0) throw new Error("the suite no longer names /v1/stream: nothing was replaced")
  const { runConformanceTests } = await import(/* @vite-ignore */ pathToFileURL(join(copy, "dist/index.js")).href)
  return runConformanceTests
}
