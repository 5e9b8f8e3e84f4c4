// `npm ci` and `npm install` run this in a checkout, so that `npm start` has its console. Plain JavaScript, for a Node that does
// not run TypeScript; and an installation never fails by it: without the console the gateway says how to build it.
try {
  const { buildConsole } = await import("./build-console.ts");
  await buildConsole();
} catch (error) {
  const why = error instanceof Error ? error.message : String(error);
  console.warn(`The console was not built (${why.split("\n")[0]}). To build it: npm run build:console`);
}
