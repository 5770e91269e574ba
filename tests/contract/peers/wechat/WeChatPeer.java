import com.google.gson.Gson;
import com.google.gson.JsonObject;
import com.wechat.pay.java.core.auth.WechatPay2Credential;
import com.wechat.pay.java.core.auth.WechatPay2Validator;
import com.wechat.pay.java.core.cipher.AeadAesCipher;
import com.wechat.pay.java.core.cipher.RSASigner;
import com.wechat.pay.java.core.cipher.RSAVerifier;
import com.wechat.pay.java.core.http.HttpHeaders;
import com.wechat.pay.java.core.notification.NotificationParser;
import com.wechat.pay.java.core.notification.RSAPublicKeyNotificationConfig;
import com.wechat.pay.java.core.notification.RequestParam;
import com.wechat.pay.java.core.util.PemUtil;
import java.io.InputStreamReader;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.util.Map;

/** Does with WeChat Pay's own SDK what a JSON object on standard input asks, and prints the results as JSON. */
public class WeChatPeer {
  public static void main(String[] arguments) {
    Gson gson = new Gson();
    JsonObject in = gson.fromJson(new InputStreamReader(System.in, StandardCharsets.UTF_8), JsonObject.class);
    JsonObject out = new JsonObject();
    asMerchant(in, out, gson);
    asPlatform(in, out);
    System.out.println(gson.toJson(out));
  }

  /** The merchant's side: signs a request, verifies answers, and parses notifications. */
  private static void asMerchant(JsonObject in, JsonObject out, Gson gson) {
    RSASigner signer =
        new RSASigner(text(in, "merchant_serial"), PemUtil.loadPrivateKeyFromString(text(in, "merchant_private")));
    WechatPay2Credential credential = new WechatPay2Credential(text(in, "merchant"), signer);
    URI uri = URI.create("https://pay.example" + text(in, "path"));
    out.addProperty("authorization", credential.getAuthorization(uri, text(in, "method"), text(in, "body")));
    out.addProperty("merchant_signature", signer.sign(text(in, "message")).getSign());

    RSAVerifier verifier =
        new RSAVerifier(PemUtil.loadPublicKeyFromString(text(in, "platform_public")), text(in, "platform_serial"));
    WechatPay2Validator validator = new WechatPay2Validator(verifier);
    JsonObject answer = in.getAsJsonObject("answer");
    HttpHeaders headers = new HttpHeaders(gson.fromJson(answer.get("headers"), Map.class));
    out.addProperty("answer_valid", validator.validate(headers, text(answer, "body")));
    out.addProperty("altered_answer_valid", validator.validate(headers, text(answer, "body") + " "));

    RSAPublicKeyNotificationConfig config =
        new RSAPublicKeyNotificationConfig.Builder()
            .publicKey(text(in, "platform_public"))
            .publicKeyId(text(in, "platform_serial"))
            .apiV3Key(text(in, "api_v3_key"))
            .build();
    NotificationParser parser = new NotificationParser(config);
    JsonObject notification = in.getAsJsonObject("notification");
    out.add("notification", gson.toJsonTree(parser.parse(parameters(notification, ""), Map.class)));
    try {
      parser.parse(parameters(notification, " "), Map.class);
      out.addProperty("altered_notification", "accepted");
    } catch (RuntimeException error) {
      out.addProperty("altered_notification", error.getClass().getSimpleName());
    }
  }

  /** WeChat Pay's side: encrypts a notification and signs it. */
  private static void asPlatform(JsonObject in, JsonObject out) {
    AeadAesCipher cipher = new AeadAesCipher(text(in, "api_v3_key").getBytes(StandardCharsets.UTF_8));
    byte[] nonce = text(in, "nonce").getBytes(StandardCharsets.UTF_8);
    byte[] associated = text(in, "associated_data").getBytes(StandardCharsets.UTF_8);
    byte[] plain = text(in, "plain").getBytes(StandardCharsets.UTF_8);
    String ciphertext = cipher.encrypt(associated, nonce, plain);
    String body = text(in, "event").replace("CIPHERTEXT", ciphertext);
    RSASigner signer =
        new RSASigner(text(in, "platform_serial"), PemUtil.loadPrivateKeyFromString(text(in, "platform_private")));
    String message = text(in, "timestamp") + "\n" + text(in, "header_nonce") + "\n" + body + "\n";
    out.addProperty("body", body);
    out.addProperty("signature", signer.sign(message).getSign());
  }

  private static RequestParam parameters(JsonObject notification, String suffix) {
    JsonObject headers = notification.getAsJsonObject("headers");
    return new RequestParam.Builder()
        .serialNumber(text(headers, "Wechatpay-Serial"))
        .nonce(text(headers, "Wechatpay-Nonce"))
        .timestamp(text(headers, "Wechatpay-Timestamp"))
        .signature(text(headers, "Wechatpay-Signature"))
        .body(text(notification, "body") + suffix)
        .build();
  }

  private static String text(JsonObject object, String name) {
    return object.get(name).getAsString();
  }
}
