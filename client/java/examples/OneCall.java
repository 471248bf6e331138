import dev.llmstatsd.client.Call;
import dev.llmstatsd.client.Client;
import java.io.IOException;
import java.util.List;

/** Times calls of a model that is not there, and shows what became of them. */
public final class OneCall {
    private OneCall() {}

    public static void main(String[] args) throws InterruptedException {
        try (Client client = Client.fromEnvironment()) {
            String answer = client.request("llama3:8b", "chat", call -> ask("Why is the sky blue?", call));
            System.out.println(answer);
            try {
                client.request("llama3:8b", "chat", call -> fail());
            } catch (IOException e) {
                System.out.println("failed: " + e.getMessage());
            }
            System.out.println(client.stats());
        }
    }

    private static String ask(String prompt, Call call) throws InterruptedException {
        StringBuilder answer = new StringBuilder();
        for (String token : List.of("Because", " of", " Rayleigh", " scattering", ".")) {
            Thread.sleep(30);
            call.firstToken();
            answer.append(token);
        }
        call.event().promptTokens(prompt.length() / 4).completionTokens(5);
        return answer.toString();
    }

    private static String fail() throws IOException {
        throw new IOException("the model's host does not answer");
    }
}
