// Command example opens a group, lets two friends join by a share link, and follows the first order until its state is
// final.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/protobuf/types/known/durationpb"

	groupsv1 "github.com/groupbuy/groupbuy-settlement/examples/go/gen/groupbuy/groups/v1"
	linksv1 "github.com/groupbuy/groupbuy-settlement/examples/go/gen/groupbuy/links/v1"
	ordersv1 "github.com/groupbuy/groupbuy-settlement/examples/go/gen/groupbuy/orders/v1"
)

// The watch gives up after this time. The campaign's groups form for at most 60 s.
const watchLimit = 2 * time.Minute

func main() {
	if err := run(context.Background()); err != nil {
		log.Fatal(describe(err))
	}
}

func run(ctx context.Context) error {
	ordersChannel, err := dial(os.Getenv("ORDERS_AT"))
	if err != nil {
		return err
	}
	defer ordersChannel.Close()
	groupsChannel, err := dial(os.Getenv("GROUPS_AT"))
	if err != nil {
		return err
	}
	defer groupsChannel.Close()
	orders := ordersv1.NewOrderServiceClient(ordersChannel)
	campaigns := groupsv1.NewCampaignServiceClient(groupsChannel)
	links := groupsv1.NewLinkServiceClient(groupsChannel)

	campaign, err := call(ctx, campaigns.CreateCampaign, &groupsv1.CreateCampaignRequest{
		RequestId: newUUID(),
		Campaign: &groupsv1.Campaign{
			Product: "pot", Currency: "CNY", SoloPriceMinor: 9900, Capacity: 3,
			Tiers:  []*groupsv1.Tier{{Members: 2, UnitPriceMinor: 8900}, {Members: 3, UnitPriceMinor: 7900}},
			Window: durationpb.New(60 * time.Second), HoldWindow: durationpb.New(20 * time.Second),
		},
	})
	if err != nil {
		return err
	}

	ann, err := call(ctx, orders.PlaceOrder, line(campaign, "ann"))
	if err != nil {
		return err
	}
	fmt.Println("ann opened", ann.Order.Group)

	link, err := call(ctx, links.CreateShareLink, &groupsv1.CreateShareLinkRequest{
		Target: ann.Order.Group, Inviter: "ann", Channel: linksv1.ShareChannel_SHARE_CHANNEL_GROUP_CHAT,
	})
	if err != nil {
		return err
	}
	for _, friend := range []string{"bob", "cat"} {
		opened, err := call(ctx, links.ResolveShareLink, &groupsv1.ResolveShareLinkRequest{ShareToken: link.ShareToken})
		if err != nil {
			return err
		}
		request := line(campaign, friend)
		request.Group, request.ShareLink = opened.Target, link.ShareToken
		joined, err := call(ctx, orders.PlaceOrder, request)
		if err != nil {
			return err
		}
		fmt.Println(friend, "joined:", joined.Order.State)
	}

	// A full or closed group is no error: the order is REFUSED, and no money is held.
	late := line(campaign, "dan")
	late.Group = ann.Order.Group
	refused, err := call(ctx, orders.PlaceOrder, late)
	if err != nil {
		return err
	}
	fmt.Println("dan:", refused.Order.State, refused.Order.Reason)

	// An error has a reason, and names the invalid fields.
	_, err = call(ctx, orders.PlaceOrder, &ordersv1.PlaceOrderRequest{Campaign: "pot"})
	fmt.Println("an invalid order:", describe(err))

	last, err := watch(ctx, orders, ann.Order.Name)
	if err != nil {
		return err
	}
	if last.State != ordersv1.OrderState_ORDER_STATE_SETTLED || last.CapturedMinor != 7900 {
		return fmt.Errorf("ann's order ended as %v with %d captured", last.State, last.CapturedMinor)
	}
	return nil
}

// line is an order of one piece. The request id makes it idempotent: a retry sends the same message.
func line(campaign *groupsv1.Campaign, customer string) *ordersv1.PlaceOrderRequest {
	return &ordersv1.PlaceOrderRequest{
		Customer: customer, Campaign: campaign.Name, Quantity: 1, Currency: campaign.Currency,
		MaxUnitPriceMinor: 8900, PaymentMethod: "card_ok", RequestId: newUUID(),
	}
}

// watch prints each change of an order until its state is final. It reopens a lost stream after the last revision.
func watch(ctx context.Context, orders ordersv1.OrderServiceClient, name string) (*ordersv1.Order, error) {
	ctx, cancel := context.WithTimeout(ctx, watchLimit)
	defer cancel()
	last := &ordersv1.Order{}
	attempt := 0
	for {
		stream, err := orders.WatchOrder(ctx, &ordersv1.WatchOrderRequest{Name: name, FromRevision: last.Revision})
		for err == nil {
			var order *ordersv1.Order
			if order, err = stream.Recv(); err == nil {
				last, attempt = order, 0
				fmt.Println("ann's order:", order.State, order.CapturedMinor)
			}
		}
		if errors.Is(err, io.EOF) {
			return last, nil
		}
		if err := pause(ctx, err, attempt); err != nil {
			return nil, err
		}
		attempt++
	}
}

func dial(address string) (*grpc.ClientConn, error) {
	return grpc.NewClient(
		address,
		grpc.WithTransportCredentials(insecure.NewCredentials()), // as `make up` serves; use mutual TLS in production
		grpc.WithNoProxy(),
		// Finds a dead connection below a watch. The services permit a ping every 10 s.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 20 * time.Second, Timeout: 10 * time.Second}),
	)
}
