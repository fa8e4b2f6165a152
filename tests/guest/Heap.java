import java.util.ArrayList;
import java.util.List;

/** A heap of live data and garbage: Heap LIVE_MIB GARBAGE_MIB [busy]. Says "ready", and then idles or not. */
public class Heap {
    static List<byte[]> live = fill(0);
    static volatile long sum;

    static List<byte[]> fill(int mib) {
        List<byte[]> found = new ArrayList<>();
        for (int i = 0; i < mib * 16; i++) {
            found.add(new byte[1 << 16]);
        }
        return found;
    }

    public static void main(String[] words) throws Exception {
        List<byte[]> garbage = fill(Integer.parseInt(words[1]));
        live = fill(Integer.parseInt(words[0]));
        garbage = null;
        System.out.println("ready");
        while (true) {
            if (words.length > 2) {
                sum += live.hashCode();
            } else {
                Thread.sleep(1000);
            }
        }
    }
}
