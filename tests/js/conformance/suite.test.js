// Runs the official server conformance suite, unmodified unless STREAM_ROOT asks for another root.
import { runConformanceTests as official } from "@durable-streams/server-conformance-tests"

import { baseUrl, ensureBucket, longPollTimeoutMs, streamRoot, subscriptions } from "../lib/target.js"
import { suiteForRoot } from "./rerooted.js"

await ensureBucket()
const run = streamRoot === "/v1/stream" ? official : await suiteForRoot(streamRoot)
run({ baseUrl, longPollTimeoutMs, subscriptions })
