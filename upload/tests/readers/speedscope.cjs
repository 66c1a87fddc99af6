// Imports a profile as speedscope does, and prints its stacks: node speedscope.cjs RELEASE FILE
//
// RELEASE: directory dist/release of the package speedscope. Its code is that of a web page. An
// object stands for the page here that has everything and does nothing.
const fs = require('fs');
const path = require('path');

const [release, file] = process.argv.slice(2);
const script = fs.readdirSync(release).find((name) => /^speedscope-.*\.js$/.test(name));
const code = fs.readFileSync(path.join(release, script), 'utf8');
const load =
  /async function (\w+)\(\w+,\w+\)\{return\(await \w+\)\.importProfilesFromArrayBuffer\(\w+,\w+\)\}/;
if (!load.test(code)) throw new Error('this version of speedscope is laid out differently');
const log = console.log;
console.log = () => {};
const absent = new Set(['dcodeIO', 'Long']); // which would change how numbers are read
const page = new Proxy(function () {}, {
  get: (_, name) => {
    if (name === Symbol.toPrimitive) return () => '';
    return absent.has(name) ? undefined : page;
  },
  set: () => true,
  apply: () => page,
  construct: () => page,
});
for (const name of ['window', 'document', 'location', 'localStorage', 'HTMLElement']) {
  globalThis[name] = page;
}
try {
  (0, eval)(code.replace(load, '$&globalThis.importProfile=$1;'));
} catch (error) {
  if (!globalThis.importProfile) throw error;
}

const bytes = fs.readFileSync(file);
const buffer = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
globalThis.importProfile(path.basename(file), buffer).then((group) => {
  const stackOf = (node) => {
    const names = [];
    for (; node && node.parent; node = node.parent) names.unshift(node.frame.name);
    return names;
  };
  const profiles = group.profiles.map((profile) => ({
    name: profile.getName(),
    unit: profile.getWeightUnit(),
    total: profile.getTotalWeight(),
    weights: profile.weights,
    stacks: profile.samples.map(stackOf),
  }));
  log(JSON.stringify({ name: group.name, profiles }));
});
