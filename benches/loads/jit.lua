-- Loops that LuaJIT compiles, and string functions that it interprets.
local function leaf(count)
  local sum = 0
  for step = 1, count do sum = (sum * 31 + step) % 65521 end
  return sum
end
local function middle(depth)
  if depth == 0 then return leaf(2000) end
  return middle(depth - 1) + leaf(50)
end
while true do
  local words = {}
  for step = 1, 300 do words[step] = ("%d:%s"):format(step, ("x"):rep(step % 9)) end
  table.sort(words, function(left, right) return left > right end)
  local text = table.concat(words, ",")
  text = text:gsub("%d+", function(number) return "<" .. number .. ">" end)
  middle(#text % 20)
end
