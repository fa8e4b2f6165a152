import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.locks.LockSupport;

/**
 * The lab's workload as a Java program: what it lets go of is garbage, and stays in use for the kernel.
 *
 * <p>Takes the commands `size BYTES RATE`, `pace OPS` and `start` of workload.py, with the same meaning, and writes twice a
 * second `java DONE WANTED LATENCIES`. A slot that a collector delays is late like one that pages.
 */
public class Work {
    static final int CHUNK_BYTES = 1 << 16;
    static final double SLOT_S = 0.1;
    static final double PATIENCE_S = 0.4;
    static final double REPORT_S = 0.5;
    static final double[] BUCKETS_S = {0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 1e9};

    static final List<byte[]> chunks = new ArrayList<>();
    static volatile long sizeBytes;
    static volatile double rate = 1e12;
    static volatile int pace;
    static volatile boolean isStarting;
    static double sizeNow;
    static long done;
    static long wanted;
    static long[] late = new long[BUCKETS_S.length];

    static double now() {
        return System.nanoTime() / 1e9;
    }

    static void listen() {
        try (BufferedReader in = new BufferedReader(new InputStreamReader(System.in))) {
            for (String line = in.readLine(); line != null; line = in.readLine()) {
                String[] words = line.split(" ");
                switch (words[0]) {
                    case "size" -> {
                        sizeBytes = Long.parseLong(words[1]);
                        rate = Double.parseDouble(words[2]);
                    }
                    case "pace" -> pace = Integer.parseInt(words[1]);
                    case "start" -> isStarting = true;
                    default -> { }
                }
            }
        } catch (java.io.IOException error) {
            System.exit(1);
        }
        System.exit(0);
    }

    static void resize(double deadline) {
        double step = rate * SLOT_S;
        sizeNow += Math.max(-step, Math.min(step, sizeBytes - sizeNow));
        int count = (int) (sizeNow / CHUNK_BYTES);
        while (chunks.size() > count) {
            chunks.remove(chunks.size() - 1);
        }
        while (chunks.size() < count && now() < deadline) {
            chunks.add(new byte[CHUNK_BYTES]);
        }
    }

    static int work(int ops, double deadline) {
        ThreadLocalRandom random = ThreadLocalRandom.current();
        if (chunks.isEmpty()) {
            return ops;
        }
        for (int op = 0; op < ops; op++) {
            chunks.get(random.nextInt(chunks.size()))[random.nextInt(CHUNK_BYTES)] ^= 1;
            if ((op & 7) == 0 && now() > deadline) {
                return op + 1;
            }
        }
        return ops;
    }

    static void report() {
        StringBuilder line = new StringBuilder("java " + done + " " + wanted + " ");
        for (int i = 0; i < late.length; i++) {
            line.append(i == 0 ? "" : ",").append(late[i]);
        }
        System.out.println(line);
        System.out.flush();
    }

    public static void main(String[] words) {
        Thread listener = new Thread(Work::listen);
        listener.setDaemon(true);
        listener.start();
        double slot = now();
        double reportAt = slot + REPORT_S;
        while (true) {
            if (isStarting) {
                isStarting = false;
                done = wanted = 0;
                late = new long[BUCKETS_S.length];
            }
            double end = slot + SLOT_S;
            double deadline = end + PATIENCE_S;
            int ops = (int) (pace * SLOT_S);
            resize(deadline);
            done += now() < deadline ? work(ops, deadline) : 0;
            wanted += ops;
            double at = now();
            int bucket = 0;
            while (at - slot > BUCKETS_S[bucket]) {
                bucket++;
            }
            late[bucket]++;
            int missed = Math.max(0, (int) ((at - end - PATIENCE_S) / SLOT_S));
            wanted += (long) missed * ops;
            slot = end + missed * SLOT_S;
            if (at >= reportAt) {
                report();
                reportAt = Math.max(reportAt + REPORT_S, at);
            }
            LockSupport.parkNanos((long) (1e9 * Math.max(0, slot - now())));
        }
    }
}
