// What fits of a name into a number of columns, as `text.rs` and `short_name.rs` do it.
"use strict";
const names = (function () {
  const COLUMNS_MIN = 3, ELLIPSIS = "\u2026";

  function columnsOf(character) { return character.codePointAt(0) < 0x1100 ? 1 : 2; }

  // Returns the head of a text that fits.
  function fit(text, columns) {
    if (columns < COLUMNS_MIN) return "";
    let width = 0, head = "";
    for (const character of text) {
      width += columnsOf(character);
      if (width > columns) return head + ELLIPSIS;
      if (width < columns) head += character;
    }
    return text;
  }

  function isIdentifier(text) { return /[\p{Alphabetic}\p{N}_]$/u.test(text.slice(-2)); }

  // Returns the length of the rest of an operator's name; 0 if there is none.
  function operator(before, rest) {
    if (!before.endsWith("operator") || isIdentifier(before.slice(0, -8))) return 0;
    return rest.startsWith("()") ? 2 : /^[<>=!+*\/%^&|~,-]*/.exec(rest)[0].length;
  }

  function hasArguments(before, bracket) {
    if (bracket === "(") return /[>)\]]$/.test(before.slice(-1)) || isIdentifier(before);
    return isIdentifier(before.endsWith("::") ? before.slice(0, -2) : before);
  }

  // Returns a name with the arguments before the last `::` cut to a number of characters.
  function shortName(name, kept) {
    const open = [];
    let short = "", parentheses = 0, inName = 0, inShort = 0;
    function close(closing) {
      while (open.length > 0) {
        const bracket = open[open.length - 1], isClosed = bracket.closing === closing;
        if (!isClosed && (closing === ">" || parentheses === 0)) break;
        const list = Array.from(short.slice(bracket.content));
        if (isClosed && bracket.hasArguments && list.length > kept) {
          short = short.slice(0, bracket.content) + list.slice(0, kept).join("") + ELLIPSIS;
        }
        if (bracket.closing === ")") parentheses -= 1;
        open.pop();
        if (isClosed) break;
      }
      short += closing;
    }
    for (let at = 0; at < name.length;) {
      const part = name.slice(at, at + (operator(short, name.slice(at)) || 1));
      const isArrow = part === ">" && /[-=]$/.test(short);
      if (part === "<" || part === "(") {
        const isAround = hasArguments(short, part);
        short += part;
        if (part === "(") parentheses += 1;
        const closing = part === "(" ? ")" : ">";
        open.push({ closing, content: short.length, hasArguments: isAround });
      } else if ((part === ">" || part === ")") && !isArrow) {
        close(part);
      } else {
        short += part;
      }
      at += part.length;
      if (open.length === 0 && name.endsWith("::", at)) [inName, inShort] = [at, short.length];
    }
    return short.slice(0, inShort) + name.slice(inName);
  }

  const shortestNames = new Map();

  // Returns the whole name if it fits, else with the arguments of what encloses the function cut.
  function fitName(name, columns) {
    const whole = fit(name, columns);
    if (whole === name || whole === "") return whole;
    if (!shortestNames.has(name)) shortestNames.set(name, shortName(name, 0));
    const shortest = shortestNames.get(name), lists = shortest.split(ELLIPSIS).length - 1;
    const width = Array.from(shortest, columnsOf).reduce((sum, columns) => sum + columns, 0);
    const kept = Math.floor(Math.max(0, columns - width) / lists); // NaN without a list
    return fit(kept > 0 ? shortName(name, kept) : shortest, columns);
  }

  return { fit, fitName };
})();
