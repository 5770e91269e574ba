package com.example.groupbuy;

import com.google.protobuf.Duration;
import com.groupbuy.groups.v1.Campaign;
import com.groupbuy.groups.v1.CampaignServiceGrpc;
import com.groupbuy.groups.v1.CreateCampaignRequest;
import com.groupbuy.groups.v1.CreateShareLinkRequest;
import com.groupbuy.groups.v1.LinkServiceGrpc;
import com.groupbuy.groups.v1.ResolveShareLinkRequest;
import com.groupbuy.groups.v1.Tier;
import com.groupbuy.links.v1.ShareChannel;
import com.groupbuy.orders.v1.Order;
import com.groupbuy.orders.v1.OrderServiceGrpc;
import com.groupbuy.orders.v1.OrderServiceGrpc.OrderServiceBlockingStub;
import com.groupbuy.orders.v1.OrderState;
import com.groupbuy.orders.v1.PlaceOrderRequest;
import com.groupbuy.orders.v1.WatchOrderRequest;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.StatusRuntimeException;
import java.util.List;
import java.util.UUID;
import java.util.concurrent.TimeUnit;

/** Opens a group, lets two friends join by a share link, and follows the first order until its state is final. */
public final class Example {
  /** The watch gives up after this time. The campaign's groups form for at most 60 s. */
  private static final long WATCH_LIMIT_MS = 120_000;

  public static void main(String[] arguments) throws InterruptedException {
    ManagedChannel ordersChannel = dial(System.getenv("ORDERS_AT"));
    ManagedChannel groupsChannel = dial(System.getenv("GROUPS_AT"));
    try {
      run(ordersChannel, groupsChannel);
    } catch (StatusRuntimeException error) {
      System.err.println(Calls.describe(error));
      System.exit(1);
    } finally {
      ordersChannel.shutdownNow().awaitTermination(5, TimeUnit.SECONDS);
      groupsChannel.shutdownNow().awaitTermination(5, TimeUnit.SECONDS);
    }
  }

  private static void run(ManagedChannel ordersChannel, ManagedChannel groupsChannel) throws InterruptedException {
    var orders = OrderServiceGrpc.newBlockingStub(ordersChannel);
    var campaigns = CampaignServiceGrpc.newBlockingStub(groupsChannel);
    var links = LinkServiceGrpc.newBlockingStub(groupsChannel);

    var offer = CreateCampaignRequest.newBuilder()
        .setRequestId(UUID.randomUUID().toString())
        .setCampaign(Campaign.newBuilder()
            .setProduct("pot").setCurrency("CNY").setSoloPriceMinor(9900).setCapacity(3)
            .addTiers(Tier.newBuilder().setMembers(2).setUnitPriceMinor(8900))
            .addTiers(Tier.newBuilder().setMembers(3).setUnitPriceMinor(7900))
            .setWindow(Duration.newBuilder().setSeconds(60))
            .setHoldWindow(Duration.newBuilder().setSeconds(20)))
        .build();
    Campaign campaign = Calls.call(campaigns, stub -> stub.createCampaign(offer));

    var first = line(campaign, "ann").build();
    Order ann = Calls.call(orders, stub -> stub.placeOrder(first)).getOrder();
    System.out.println("ann opened " + ann.getGroup());

    var share = CreateShareLinkRequest.newBuilder()
        .setTarget(ann.getGroup()).setInviter("ann").setChannel(ShareChannel.SHARE_CHANNEL_GROUP_CHAT).build();
    String token = Calls.call(links, stub -> stub.createShareLink(share)).getShareToken();
    for (String friend : List.of("bob", "cat")) {
      var resolve = ResolveShareLinkRequest.newBuilder().setShareToken(token).build();
      String group = Calls.call(links, stub -> stub.resolveShareLink(resolve)).getTarget();
      var request = line(campaign, friend).setGroup(group).setShareLink(token).build();
      Order joined = Calls.call(orders, stub -> stub.placeOrder(request)).getOrder();
      System.out.println(friend + " joined: " + joined.getState());
    }

    // A full or closed group is no error: the order is REFUSED, and no money is held.
    var late = line(campaign, "dan").setGroup(ann.getGroup()).build();
    Order refused = Calls.call(orders, stub -> stub.placeOrder(late)).getOrder();
    System.out.println("dan: " + refused.getState() + " " + refused.getReason());

    // An error has a reason, and names the invalid fields.
    try {
      Calls.call(orders, stub -> stub.placeOrder(PlaceOrderRequest.newBuilder().setCampaign("pot").build()));
    } catch (StatusRuntimeException error) {
      System.out.println("an invalid order: " + Calls.describe(error));
    }

    Order last = watch(orders, ann.getName());
    if (last.getState() != OrderState.ORDER_STATE_SETTLED || last.getCapturedMinor() != 7900) {
      System.err.println("ann's order ended as " + last);
      System.exit(1);
    }
  }

  /** An order of one piece. The request id makes it idempotent: a retry sends the same message. */
  private static PlaceOrderRequest.Builder line(Campaign campaign, String customer) {
    return PlaceOrderRequest.newBuilder()
        .setCustomer(customer).setCampaign(campaign.getName()).setQuantity(1).setCurrency(campaign.getCurrency())
        .setMaxUnitPriceMinor(8900).setPaymentMethod("card_ok").setRequestId(UUID.randomUUID().toString());
  }

  /** Prints each change of an order until its state is final. Reopens a lost stream after the last revision. */
  private static Order watch(OrderServiceBlockingStub orders, String name) throws InterruptedException {
    long until = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(WATCH_LIMIT_MS);
    Order last = Order.getDefaultInstance();
    for (int attempt = 0; ; attempt++) {
      try {
        var request = WatchOrderRequest.newBuilder().setName(name).setFromRevision(last.getRevision()).build();
        var limited = orders.withDeadlineAfter(until - System.nanoTime(), TimeUnit.NANOSECONDS);
        for (var changes = limited.watchOrder(request); changes.hasNext(); ) {
          last = changes.next();
          attempt = 0;
          System.out.println("ann's order: " + last.getState() + " " + last.getCapturedMinor());
        }
        return last;
      } catch (StatusRuntimeException error) {
        Calls.pause(error, attempt, until);
      }
    }
  }

  private static ManagedChannel dial(String address) {
    return Grpc.newChannelBuilder(address, InsecureChannelCredentials.create()) // as `make up` serves
        .proxyDetector(target -> null)
        .disableRetry() // Calls retries
        // Finds a dead connection below a watch. The services permit a ping every 10 s.
        .keepAliveTime(20, TimeUnit.SECONDS)
        .keepAliveTimeout(10, TimeUnit.SECONDS)
        .build();
  }

  private Example() {}
}
