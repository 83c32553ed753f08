from django.urls import path

from wallet import api, price_api

urlpatterns = [
    path("api/v1/wallet", api.WalletBalance.as_view()),
    path("api/v1/wallet/transactions", api.Transactions.as_view()),
    path("api/v1/wallet/statement", api.StatementOfMonth.as_view()),
    path("api/v1/wallet/holds", api.Holds.as_view()),
    path("api/v1/wallet/deposits", api.Deposits.as_view()),
    path("api/v1/wallet/adjustments", api.Adjustments.as_view()),
    path("api/v1/prices", price_api.Prices.as_view()),
    path("api/v1/prices/<price_id>", price_api.OnePrice.as_view()),
]
