import java.util.*;
import java.util.stream.*;

/** Two threads on which interpreter, both compilers and the garbage collector have work. */
public class Load {
    static long leaf(int count) {
        long sum = 0;
        for (int step = 0; step < count; step++) sum = (sum * 31 + step) % 65521;
        return sum;
    }

    static long middle(int depth) {
        return depth == 0 ? leaf(2000) : middle(depth - 1) + leaf(50);
    }

    static void run() {
        for (Map<Integer, String> old = new HashMap<>();;) {
            List<String> words = IntStream.range(0, 300)
                .mapToObj(step -> step + ":" + "x".repeat(step % 9))
                .sorted(Comparator.reverseOrder())
                .collect(Collectors.toList());
            String text = String.join(",", words).replaceAll("[0-9]+", "<$0>");
            old.put((int) middle(text.length() % 20) % 5000, text);
        }
    }

    public static void main(String[] arguments) {
        new Thread(Load::run).start();
        run();
    }
}
