# Two fibers that work and yield.
def leaf(count) = (1..count).map { |step| step.to_s * 3 }.sort.join.hash
def middle(depth) = depth.zero? ? leaf(200) : middle(depth - 1) ^ leaf(20)

fibers = Array.new(2) do
  Fiber.new do
    loop do
      [1, 5, 9].each { |depth| middle(depth) }
      Fiber.yield
    end
  end
end
loop { fibers.each(&:resume) }
