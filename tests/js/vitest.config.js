import { defineConfig } from "vitest/config"

if (!process.env.BASE_URL) throw new Error("set BASE_URL to the server under test: see README.md")
// Vite gives BASE_URL a meaning of its own inside the workers, so it travels there under another name.
const env = { TARGET_URL: process.env.BASE_URL }

const project = (name, testTimeout) => ({
  test: { name, include: [`${name}/**/*.test.js`], environment: "node", env, testTimeout, hookTimeout: 30_000 },
})

export default defineConfig({
  test: {
    projects: [project("conformance", 30_000), project("client", 60_000), project("yjs", 30_000)],
    // Several tests are sensitive to time, so files take turns.
    fileParallelism: false,
    reporters: ["default", ["json", { outputFile: process.env.REPORT || "report.json" }], "./lib/count-reporter.js"],
  },
})
