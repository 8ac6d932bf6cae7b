// The last lines of a run, for scripts: `failed: NAME: WHY` for each such test, and `N passed, N failed`.
export default class CountReporter {
  onTestRunEnd(modules, unhandledErrors) {
    const lines = []
    let passed = 0
    // What breaks outside of a test fails the run as much as a test does.
    let failed = unhandledErrors.length
    for (const module of modules) {
      failed += module.errors().length
      for (const suite of module.children.allSuites()) failed += suite.errors().length
      for (const test of module.children.allTests()) {
        const { state, errors } = test.result()
        if (state === "passed") passed += 1
        if (state !== "failed") continue
        failed += 1
        lines.push(`failed: ${test.fullName}: ${errors[0]?.message.split("\n")[0]}`)
      }
    }
    // After the other reporters, whose own summaries are written when the run ends.
    lines.push(`${passed} passed, ${failed} failed`)
    process.on("exit", () => console.log(lines.join("\n")))
  }
}
