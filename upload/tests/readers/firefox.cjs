// Imports a profile as the Firefox Profiler does, and prints its stacks: node firefox.cjs CLI FILE
//
// CLI: dist/profiler-cli.js of the package @firefox-devtools/profiler-cli, which is the viewer's own
// code. Its import function is not exported, so that it is found by how its code begins.
const fs = require('fs');
const Module = require('module');

const [cli, file] = process.argv.slice(2);
const code = fs.readFileSync(cli, 'utf8').replace(/^#!.*\n/, '');
const load = code.match(/async function (\w+)\([^)]*\)\{try\{if\(Object\.prototype\.toString\.call/);
const main = code.match(/\w+\(\)\.catch\(\w+=>\{console\.error\(`Fatal error/);
if (!load || !main) throw new Error('this version of the viewer is laid out differently');
const library = new Module(cli, null);
library.filename = cli;
library.paths = Module._nodeModulePaths(cli);
library._compile(`${code.slice(0, main.index)}\n;module.exports=${load[1]};`, cli);

library.exports(new Uint8Array(fs.readFileSync(file)), file).then((profile) => {
  const { stackTable, frameTable, funcTable, stringArray } = profile.shared;
  const stackOf = (stack) => {
    const names = [];
    while (stack !== null) {
      names.unshift(stringArray[funcTable.name[frameTable.func[stackTable.frame[stack]]]]);
      const offset = stackTable.prefixOffset[stack];
      stack = offset === 0 ? null : stack - offset;
    }
    return names;
  };
  const timesOf = ({ time, timeDeltas, length }) => {
    let now = 0;
    return Array.from({ length }, (_, i) => (time ? time[i] : (now += timeDeltas[i])));
  };
  const threads = profile.threads.map(({ name, processName, pid, tid, samples }) => ({
    name,
    processName,
    pid,
    tid,
    samples: samples.length,
    weight: samples.weight ? samples.weight.reduce((a, b) => a + b, 0) : samples.length,
    times: timesOf(samples),
    stacks: samples.stack.map(stackOf),
  }));
  const { interval, preprocessedProfileVersion: version, categories } = profile.meta;
  console.log(JSON.stringify({ interval, version, categories, threads }));
});
