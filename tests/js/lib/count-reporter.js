// The last line of a run, for scripts: `N passed, N failed`.
export default class CountReporter {
  onTestRunEnd(modules, unhandledErrors) {
    let passed = 0
    // What breaks outside of a test fails the run as much as a test does.
    let failed = unhandledErrors.length
    for (const module of modules) {
      failed += module.errors().length
      for (const suite of module.children.allSuites()) failed += suite.errors().length
      for (const test of module.children.allTests()) {
        const { state } = test.result()
        if (state === "passed") passed += 1
        if (state === "failed") failed += 1
      }
    }
    // After the other reporters, whose own summaries are written when the run ends.
    process.on("exit", () => console.log(`${passed} passed, ${failed} failed`))
  }
}
