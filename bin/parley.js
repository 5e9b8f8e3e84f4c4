#!/usr/bin/env node
// Plain old JavaScript: an older Node must get as far as the message below.
import fs from "node:fs";
import nodeModule from "node:module";
import os from "node:os";
import nodePath from "node:path";
import { fileURLToPath } from "node:url";

var needed = [22, 18];
var found = process.versions.node.split(".").map(Number);

if (found[0] < needed[0] || (found[0] === needed[0] && found[1] < needed[1])) {
  console.error("Parley needs Node " + needed.join(".") + " or later; this is Node " + process.versions.node + ".");
  console.error("In a checkout, `npm ci` brings a Node of its own and `npm start` uses it.");
  process.exit(1);
}

// What V8 compiles is kept for the next start. In the user's own folder: Node's default lies where everybody may write.
// Where it cannot be written Node goes on without, and so does this for a user who has no home.
try {
  if (nodeModule.enableCompileCache && !process.env.NODE_COMPILE_CACHE) {
    nodeModule.enableCompileCache(nodePath.join(os.homedir(), ".cache", "parley", "compiled"));
  }
} catch (error) {
  if (error.code !== "ERR_SYSTEM_ERROR") throw error;
}

// Node runs the sources as they are, except inside node_modules, where it strips no types: a package brings them built.
var source = new URL("../src/main.ts", import.meta.url);
var path = fileURLToPath(source);
var runsSource = path.split(/[\\/]/).indexOf("node_modules") === -1 && fs.existsSync(path);

import(runsSource ? source.href : new URL("../dist/main.js", import.meta.url).href).then(function (module) {
  return module.main();
});
