// Opens a group, lets two friends join by a share link, and follows the first order until its state is final.
import { randomUUID } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import { type Client, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { type Campaign, CampaignService, CreateCampaignRequestSchema } from "../gen/groupbuy/groups/v1/campaigns_pb.js";
import {
  CreateShareLinkRequestSchema,
  LinkService,
  ResolveShareLinkRequestSchema,
} from "../gen/groupbuy/groups/v1/links_pb.js";
import { ShareChannel } from "../gen/groupbuy/links/v1/links_pb.js";
import {
  type Order,
  OrderSchema,
  OrderService,
  OrderState,
  type PlaceOrderRequest,
  PlaceOrderRequestSchema,
} from "../gen/groupbuy/orders/v1/orders_pb.js";
import { call, describe, left, pause } from "./calls.js";

// The watch gives up after this time. The campaign's groups form for at most 60 s.
const watchLimitMs = 120_000;

async function run(): Promise<void> {
  const orders = createClient(OrderService, dial("ORDERS_AT"));
  const groupsTransport = dial("GROUPS_AT");
  const campaigns = createClient(CampaignService, groupsTransport);
  const links = createClient(LinkService, groupsTransport);

  const campaign = await call(
    campaigns.createCampaign,
    create(CreateCampaignRequestSchema, {
      requestId: randomUUID(),
      campaign: {
        product: "pot",
        currency: "CNY",
        soloPriceMinor: 9900n,
        capacity: 3,
        tiers: [
          { members: 2, unitPriceMinor: 8900n },
          { members: 3, unitPriceMinor: 7900n },
        ],
        window: { seconds: 60n },
        holdWindow: { seconds: 20n },
      },
    }),
  );

  const ann = placed(await call(orders.placeOrder, line(campaign, "ann")));
  console.log("ann opened", ann.group);

  const link = await call(
    links.createShareLink,
    create(CreateShareLinkRequestSchema, { target: ann.group, inviter: "ann", channel: ShareChannel.GROUP_CHAT }),
  );
  for (const friend of ["bob", "cat"]) {
    const resolve = create(ResolveShareLinkRequestSchema, { shareToken: link.shareToken });
    const { target } = await call(links.resolveShareLink, resolve);
    const request = line(campaign, friend, { group: target, shareLink: link.shareToken });
    console.log(`${friend} joined:`, OrderState[placed(await call(orders.placeOrder, request)).state]);
  }

  // A full or closed group is no error: the order is REFUSED, and no money is held.
  const refused = placed(await call(orders.placeOrder, line(campaign, "dan", { group: ann.group })));
  console.log("dan:", OrderState[refused.state], refused.reason);

  // An error has a reason, and names the invalid fields.
  try {
    await call(orders.placeOrder, create(PlaceOrderRequestSchema, { campaign: "pot" }));
  } catch (error) {
    console.log("an invalid order:", describe(error));
  }

  const last = await watch(orders, ann.name);
  if (last.state !== OrderState.SETTLED || last.capturedMinor !== 7900n) {
    throw new Error(`ann's order ended as ${OrderState[last.state]} with ${last.capturedMinor} captured`);
  }
}

/** An order of one piece. The request id makes it idempotent: a retry sends the same message. */
function line(campaign: Campaign, customer: string, join: { group?: string; shareLink?: string } = {}): PlaceOrderRequest {
  return create(PlaceOrderRequestSchema, {
    customer,
    campaign: campaign.name,
    quantity: 1,
    currency: campaign.currency,
    maxUnitPriceMinor: 8900n,
    paymentMethod: "card_ok",
    requestId: randomUUID(),
    ...join,
  });
}

function placed(response: { order?: Order }): Order {
  if (response.order === undefined) {
    throw new Error("the response has no order");
  }
  return response.order;
}

/** Prints each change of an order until its state is final. Reopens a lost stream after the last revision. */
async function watch(orders: Client<typeof OrderService>, name: string): Promise<Order> {
  const until = performance.now() + watchLimitMs;
  let last = create(OrderSchema);
  for (let attempt = 0; ; attempt++) {
    try {
      for await (const order of orders.watchOrder({ name, fromRevision: last.revision }, { timeoutMs: left(until) })) {
        last = order;
        attempt = 0;
        console.log("ann's order:", OrderState[order.state], order.capturedMinor);
      }
      return last;
    } catch (error) {
      await pause(error, attempt, until);
    }
  }
}

function dial(variable: string) {
  return createGrpcTransport({
    baseUrl: `http://${process.env[variable]}`, // as `make up` serves; use mutual TLS in production
    // Finds a dead connection below a watch. The services permit a ping every 10 s.
    pingIntervalMs: 20_000,
    pingTimeoutMs: 10_000,
  });
}

run().catch((error: unknown) => {
  console.error(describe(error));
  process.exitCode = 1;
});
