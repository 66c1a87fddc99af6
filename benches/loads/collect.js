// Garbage of all ages: young objects for the scavenger, old ones for marking and compaction.
const old = new Map();
for (let round = 0; ; round++) {
  for (let key = 0; key < 20000; key++) {
    const value = { key, text: `${round}/${key}`, list: [key, { round }] };
    old.set((round * 7919 + key) % 300000, value);
  }
  for (let key = round % 3; key < 300000; key += 3) old.delete(key);
}
